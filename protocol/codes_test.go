package protocol_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

func TestEveryCodeHasOneReply(t *testing.T) {
	var got []sealmq.Code
	for _, r := range protocol.Replies() {
		if r.Sentence == "" {
			t.Errorf("%s has no sentence", r.Code)
		}
		got = append(got, r.Code)
	}
	var want []sealmq.Code
	for _, info := range sealmq.Codes() {
		want = append(want, info.Code)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

func TestReplyShowsNothingOfInternalErrors(t *testing.T) {
	for _, r := range protocol.Replies() {
		err := fmt.Errorf("wrapped: %w", &sealmq.Error{Code: r.Code, Err: errors.New("secret")})
		if got, ok := protocol.ReplyTo(err); got != r || !ok {
			t.Errorf("%s: %+v", r.Code, got)
		}
		own := &sealmq.Error{Code: r.Code, Message: "its own sentence", Err: errors.New("secret")}
		if got, ok := protocol.ReplyTo(own); got.Code != r.Code || got.Sentence != "its own sentence" || !ok {
			t.Errorf("%s with a sentence: %+v", r.Code, got)
		}
	}
	for _, err := range []error{errors.New("disk /var/lib on fire"), &sealmq.Error{Message: "no code"}, &sealmq.Error{Code: "unheard_of", Message: "secret"}} {
		if r, ok := protocol.ReplyTo(err); ok {
			t.Errorf("%v is shown as %+v", err, r)
		}
	}
}
