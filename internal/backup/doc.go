// Package backup makes, lists and opens the backups of a node.
//
// A backup is a zip file, backup_YYYYMMDD_HHMMSS.zip with the time in UTC, whose manifest.json
// has the checksum of every other file in it. It has no keys: those are in one file beside all
// backups, the key backup, which is encrypted with a passphrase and replaced each time, so that
// a key that was destroyed is soon in none.
//
// A file has its good name only when all of it is on stable storage. What goes into a backup is
// the subject of its caller.
package backup
