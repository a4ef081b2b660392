// Package keydir is the key directory: it finds the public key to seal for, and believes
// nothing that is not proven.
//
//	broker                                      client
//
//	entries   alice ▸ suite ▸ entry 2 ───────▶  is it signed by its owner's certificate?
//	log       r0 r1 r2 … rn                     is the entry in the log?        (proof)
//	           └──┴─┬┴────┘                     does the log continue?          (proof)
//	               root ──▶ checkpoint ──────▶  is it signed with the log's key?
//	                                            does the key follow the pinned one?
//	                                                  │
//	                                                  ▼
//	                                            pins: log key, checkpoint, keys by name
//
// The broker keeps a log of everything that was ever put into its directory (package keylog).
// A checkpoint is the log's size and root with a signature. A proof shows that a record
// is in the log of a checkpoint, or that the log of one checkpoint continues that of
// another. Pins remember what was seen. What is shown later must agree with it.
//
// A Directory looks up and publishes keys. It asks over a connection, an Asker, and fetches
// what the judge needs. The judge, a pure function, decides: what is remembered and what the
// broker said go in; what to remember from then on, and the key or a refusal, come out. The
// pins are read once and written once, in one step.
//
// Package keydir does not seal, it keeps no log, and a seal.Verifier says whom to trust.
package keydir
