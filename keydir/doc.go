// Package keydir is the key directory: it finds the public key to seal for, and believes
// nothing that is not proven.
//
// A broker keeps an append-only log of everything that was ever put into its directory. It
// signs the log's size and root as a checkpoint, and proves for each key that it shows that
// the key stands in the log, and for each checkpoint that the log continues the one before.
// A Directory asks these questions over a connection, checks the proofs, and compares what
// it is shown with Pins, the memory of what was seen before.
//
// It does not seal, it keeps no log, and whom to trust is said by a seal.Verifier.
package keydir
