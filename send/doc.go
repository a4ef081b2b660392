// Package send seals texts for receivers and publishes them until each is confirmed.
//
// A Sender seals each text once; what it publishes again are the same bytes, so that the
// broker recognises them. With a Spool, messages are on stable storage before their first
// publish, and a sender that dies and starts again sends the same bytes: nothing is lost and
// nothing doubled, within the time for which the broker recognises messages.
//
// It connects to nobody, which client does, and does not decide whose key is whose, which
// keydir does.
package send
