package protocol

import (
	"cmp"
	"errors"

	"github.com/sealmq/sealmq"
)

// ReplyTo is what a peer may know of err: its code and a sentence for people. ok is false
// for an internal error, which may carry anything, so nothing of it is shown.
func ReplyTo(err error) (code sealmq.Code, sentence string, ok bool) {
	var e *sealmq.Error
	if !errors.As(err, &e) {
		return "", "", false
	}
	usual := e.Code.Info().Sentence
	return e.Code, cmp.Or(e.Message, usual), usual != ""
}
