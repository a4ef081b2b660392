// Package enroll is the machine's side of certificates: it gets one for an enrolment token, and
// renews it before it expires. Private keys never leave the machine.
//
// Certificate and key are two files, and a program may read them at any moment. So while a
// certificate is replaced the key file has both keys, the one of the current certificate first:
// the new key is on disk before it is asked for, the certificate changes in one step, and then
// the old key goes. Package mtls takes the key that fits. Every step can be repeated after a crash.
package enroll
