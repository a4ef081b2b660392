// Package bench is the load generator: publishers and consumers that drive a broker
// over the real protocol and mutual TLS, and check every message.
//
// The body of a message carries its publisher, its number and the time it was sent, and
// is otherwise a fixed pattern. So the checker knows for each confirmed message whether
// every queue delivered it once, never, twice, or changed. The generator shares the
// machine with the broker, so it allocates no memory per message.
//
// The package starts no broker and prints nothing; "sealmq bench" does both.
package bench
