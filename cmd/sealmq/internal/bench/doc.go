// Package bench is the load generator: publishers and consumers that drive a broker
// over the real protocol and mutual TLS, and check every message on the way.
//
// Each message carries its publisher, its number and the time it was sent, in a body
// of the asked size that is otherwise a fixed pattern. So the checker knows for each
// confirmed message whether every queue gave it out once, never, twice, or changed.
// The generator shares the machine with the broker, so it allocates nothing for a
// message of its own.
//
// It starts no broker and prints nothing; "sealmq bench" does both.
package bench
