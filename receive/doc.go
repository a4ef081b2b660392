// Package receive takes sealed messages from a queue, opens and checks them, and shows each
// that is new once.
//
// A Receiver opens messages and acknowledges what the application has committed. A Ledger
// remembers what was committed together with how far the application's output has come, so
// that each message takes effect once, whatever dies when. It also remembers the numbers that
// senders give their messages, and tells repeated ones from new ones.
//
// It connects to nobody, which client does, and does not decide whom to trust, which the
// seal.Verifier does.
package receive
