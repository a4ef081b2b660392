// Package crash finds out what a broker keeps when its process is killed or its power is
// cut, with the real program, real clients over mutual TLS and a real file system.
//
// Publishers and consumers work without a pause while a broker dies again and again. A
// Ledger outside of the broker's reach has what was published, confirmed, delivered and
// acknowledged. It reports
//
//   - as lost: a confirmed message that a queue neither delivered nor has, or an
//     unacknowledged one that is gone;
//   - as a duplicate: a message that came again from a queue after ACK_CONFIRMED, after it
//     moved to the dead-letter queue, or that a queue had twice;
//   - as reordered: first deliveries of a publisher's messages out of order, except of those
//     that were not confirmed when a power cut tore a batch;
//   - as altered or invented: a message that is not what was published to that queue.
//
// Everything random comes from a seed, but what the broker was doing when it died depends
// on the machine too: the same seed makes a finding likely again, not certain.
//
// Power loss is a shutdown of an ext4 file system on a loop device, without a flush of its
// journal, after the process was stopped; random pages that were not synced are written
// before it, so that what survives is no prefix. It needs root and Linux. It cannot show
// that a folder entry was not synced, because ext4 keeps those; the simulations in journal
// and engine/local can.
package crash
