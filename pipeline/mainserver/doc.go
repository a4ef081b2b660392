// Package mainserver is the pipeline's main server: it opens what proxies sealed, keeps the
// records of all messages, and administers clients, certificates and the queue.
//
// It promises that what it calls registered or delivered is committed in the database; that
// a message which comes twice is stored once; that a message of a client which enters is
// opened only if a proxy sealed it; and that neither an error nor a log line shows a number
// or a text.
//
// Service has no HTTP in it; Handler puts the API in front of it. It decides nothing about
// TLS, and keeps no queue.
package mainserver
