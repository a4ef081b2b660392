// Package pipeline is the vocabulary of the message pipeline, and its seams: a proxy seals
// what clients submit and puts it into a Queue, workers take it from there and deliver it
// to a Main server, which stores it.
//
//	client ──▶ proxy ──▶ Queue ──▶ worker ──▶ Main ──▶ records
//
// It promises that an Item in a queue shows neither number nor text, and that what Open
// returns is what the proxy sealed for this message, this client, this domain and this
// time of queueing.
//
// It keeps nothing and speaks no protocol: the roles do, in packages below it.
package pipeline
