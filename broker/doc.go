// Package broker decides which queues a message goes to and which identity may do what:
// exchanges, bindings, routing, permissions, the key directory. What happens inside a
// queue is the engine's (Engine).
//
// It knows no sockets, no files and no protocol; protocols call it, cmd/sealmq gives it
// an engine.
package broker
