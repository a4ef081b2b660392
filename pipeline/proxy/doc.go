// Package proxy takes messages from clients over HTTPS, seals them for the main server and
// puts them into the pipeline's queue.
//
// It promises that 202 leaves only after the queue has stored the message; that a message
// counts as its caller's, whatever the request says; that its number, text and metadata are
// readable by the main server only from then on; and that a client waits neither for the main
// server nor for a worker.
//
// It knows neither the queue's kind nor the way to the main server, has no database, and
// cannot open what it has sealed.
package proxy
