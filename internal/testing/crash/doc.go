// Package crash tests what a broker keeps when its process is killed or its power is cut,
// with the real program, real clients over mutual TLS and a real file system.
//
// Publishers and consumers work all the time while the broker dies again and again. A
// Ledger records what was published, confirmed, delivered and acknowledged. It reports:
//
//   - lost: a confirmed message that a queue neither delivered nor has, or an
//     unacknowledged one that is gone;
//   - duplicate: a message that a queue delivered after ACK_CONFIRMED, or after it was
//     dead-lettered, or that a queue had twice;
//   - reordered: first deliveries of a publisher's messages out of order, except messages
//     that were not confirmed when a power cut tore a batch;
//   - altered or invented: a message that is not what was published to that queue.
//
// All random choices come from a seed. What the broker was doing when it died also depends
// on the machine, so the same seed makes a finding likely again, but not certain.
//
// A power cut stops the process and shuts down an ext4 file system on a loop device,
// without a flush of its journal. Before that, random unsynced pages are written, so that
// any part of the unsynced data may survive. This needs root and Linux. It cannot find a
// folder entry that was not synced, because ext4 keeps those; the simulations in journal
// and engine/local can.
//
// FrozenDisk lets that file system hang, as a disk does that is about to fail.
//
// Pipeline and Partition do the same with the roles of a pipeline: processes are killed, or
// hosts lose what they send each other. The clients' answers are compared with the rows.
package crash
