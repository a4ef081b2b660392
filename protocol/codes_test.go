package protocol_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

func TestReplyShowsNothingOfInternalErrors(t *testing.T) {
	for _, info := range sealmq.Codes() {
		err := fmt.Errorf("wrapped: %w", &sealmq.Error{Code: info.Code, Err: errors.New("secret")})
		if code, sentence, ok := protocol.ReplyTo(err); code != info.Code || sentence != info.Sentence || !ok {
			t.Errorf("%s: %s, %q, %v", info.Code, code, sentence, ok)
		}
		own := &sealmq.Error{Code: info.Code, Message: "its own sentence", Err: errors.New("secret")}
		if code, sentence, ok := protocol.ReplyTo(own); code != info.Code || sentence != "its own sentence" || !ok {
			t.Errorf("%s with a sentence: %s, %q, %v", info.Code, code, sentence, ok)
		}
	}
	for _, err := range []error{errors.New("disk /var/lib on fire"), &sealmq.Error{Message: "no code"}, &sealmq.Error{Code: "unheard_of", Message: "secret"}} {
		if code, sentence, ok := protocol.ReplyTo(err); ok {
			t.Errorf("%v is shown as %s, %q", err, code, sentence)
		}
	}
}
