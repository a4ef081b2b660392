// Package faultfs is a file system in memory that knows what a crash would leave, and that
// fails on demand. It implements durable.FS for tests.
//
// It is stricter than any real file system, on purpose:
//
//   - Content written since the last successful File.Sync is volatile, in sectors of
//     512 bytes. A crash keeps any subset of them, each in any state it had since
//     the sync; a sector itself is never torn.
//   - An entry that was created, renamed or removed since the last SyncDir of its
//     folder is volatile, also for a file whose content was synced. A rename happens
//     as a whole or not at all.
//   - After a failed sync the written pages count as clean, as on Linux: a later sync
//     succeeds without writing them, and reads still show them until the cache is
//     dropped.
//
// Renames from one folder to another are refused, because the interface promises
// nothing about them. Access rights, links and times do not exist.
//
// A test runs a store on an FS, cuts the power (Crash, PowerOffAt), and opens what is left.
// The same calls and seeds always give the same result.
package faultfs
