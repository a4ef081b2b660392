// Package text speaks the line protocol of CipherMQ and the commands that SealMQ adds to
// it. docs/protocol.md is its specification.
//
// It has three layers. Parse, CheckMessage and CheckBatch are pure functions over bytes.
// The table of verbs says what each command needs and which method carries it out. A
// Session is one connection's conversation: it takes bytes in (Input) and gives bytes out
// (Output), so it runs the same over TLS, in memory, and in a test that cuts the input at
// any byte.
//
// It promises that every command gets exactly its reply, in the order of the commands, and
// only after what the reply says is on stable storage; that an acknowledgement settles what
// this connection holds and nothing else; and that every buffer has a limit.
//
// It deliberately knows no sockets, no TLS and no permissions: package listener has the
// first two, the broker decides the third.
package text
