package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/send"
)

// The broker would only say that it does not accept the certificate.
func TestDatesOfOnesOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	res, err := ca.Setup(dir, nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := res.Authority.Paths().Cert(ca.AdminName)
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""},
		{-2 * 365 * 24 * time.Hour, "is not valid before "},
		{100 * 365 * 24 * time.Hour, "expired on "},
	} {
		err := checkOwnCertificate(path, time.Now().Add(tt.after))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), path+" "+tt.want) {
			t.Errorf("after %v: %v", tt.after, err)
		}
	}
}

func TestHintsFitTheCause(t *testing.T) {
	for _, tt := range []struct {
		err        error
		text, hint string
	}{
		{fmt.Errorf("TLS with b: %w", x509.CertificateInvalidError{Reason: x509.Expired}), "", "this is the broker's certificate"},
		{fmt.Errorf("consume q: %w", fmt.Errorf("%w: broker is away for 2s", client.ErrClosed)), "consume q: broker is away for 2s", ""},
		{&sealmq.Error{Code: sealmq.TooLarge, Message: "the message is too large"}, "", "--max-line-bytes"},
		{&net.OpError{Op: "listen", Net: "tcp", Err: syscall.EACCES}, "", "ports below 1024"},
		{withHint(sealmq.ErrNoExchange, "look there"), "", "look there"},
	} {
		got := explain(tt.err)
		if tt.text != "" && got.Error() != tt.text {
			t.Errorf("%v: text %q", tt.err, got)
		}
		if hint := hintFor(got); !strings.Contains(hint, tt.hint) {
			t.Errorf("%v: hint %q", tt.err, hint)
		}
		if !errors.Is(got, tt.err) {
			t.Errorf("%v: the cause is gone", tt.err)
		}
	}
}

func TestWhatAnInterruptLeaves(t *testing.T) {
	for want, s := range map[string]sender.Stats{
		"interrupted": {Read: 2, Stats: send.Stats{Confirmed: 2}},
		"interrupted: 1 message read, 0 confirmed, 1 not stored":                     {Read: 1},
		"interrupted: 5 messages read, 2 confirmed, 3 possibly stored":               {Read: 5, Stats: send.Stats{Confirmed: 2, Unknown: 3}},
		"interrupted: 5 messages read, 1 confirmed, 3 not stored, 1 possibly stored": {Read: 5, Stats: send.Stats{Confirmed: 1, Unknown: 1}},
	} {
		if got := interrupted(s).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
