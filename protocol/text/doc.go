// Package text speaks the line protocol of CipherMQ and the commands that SealMQ adds
// to it. docs/protocol.md is its specification.
//
// It has three layers: Parse, CheckMessage and CheckBatch are pure functions over
// bytes; the reply texts stand in one file; a Session is one connection's
// conversation. A Session takes bytes in (Input) and gives bytes out (Output), so that
// it runs the same over TLS, in memory, and in a test that cuts the input at any byte.
//
// It promises that every command gets exactly its reply, in the order of the commands,
// and only once what the reply says is on stable storage; that an acknowledgement
// settles what this connection holds and nothing else; and that every buffer has a
// bound.
//
// It deliberately knows no sockets, no TLS, no files and no permissions: the server
// owns the first three, the broker decides the last.
package text
