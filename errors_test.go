package sealmq_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sealmq/sealmq"
)

func TestErrorsMatchByCode(t *testing.T) {
	err := fmt.Errorf("consume: %w", &sealmq.Error{Code: sealmq.NoQueue, Message: "queue 'x' not found"})
	if !errors.Is(err, sealmq.ErrNoQueue) {
		t.Error("an error of the same code does not match the sentinel")
	}
	if errors.Is(err, sealmq.ErrNoExchange) {
		t.Error("an error of another code matches")
	}
	if got := sealmq.CodeOf(err); got != sealmq.NoQueue {
		t.Errorf("code %q, want %q", got, sealmq.NoQueue)
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	err := &sealmq.Error{Code: sealmq.Unavailable, Message: "the store has failed", Err: io.ErrShortWrite}
	if !errors.Is(err, io.ErrShortWrite) {
		t.Error("the cause is lost")
	}
	if got, want := err.Error(), "the store has failed: short write"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestCodeOfErrorsWithoutOne(t *testing.T) {
	for _, err := range []error{nil, io.EOF, fmt.Errorf("read: %w", io.EOF)} {
		if got := sealmq.CodeOf(err); got != "" {
			t.Errorf("CodeOf(%v) = %q, want none", err, got)
		}
	}
}
