// Package records stores the messages of the pipeline's main server, in SQLite or in MySQL
// and MariaDB, behind one set of statements.
//
// What a call of [Store.Register], [Store.Deliver] or [Store.Status] reported is on stable
// storage when the call returns. Concurrent calls share a transaction: what arrives while one
// is committed is in the next. There is no timer. If a row spoils a transaction, its rows are
// tried one by one.
//
// Numbers and texts are given in clear, and are encrypted and hashed (package atrest) before
// they reach the database. No error and no log line contains any of them.
//
// Names are compared byte by byte: Acme and acme are two clients. A message is identified by
// client and message id together.
//
// Errors are coded (package sealmq): Unavailable says that it is not known whether something
// was done and that the call may be repeated, NoStorage that the disk is full, BadArgument
// that a value is not valid.
package records
