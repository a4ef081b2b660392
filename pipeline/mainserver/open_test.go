package mainserver

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/seal"
)

func TestJudge(t *testing.T) {
	future := &seal.Error{Kind: seal.ErrTime, Err: seal.ErrFuture}
	for want, list := range map[pipeline.ResultStatus][]error{
		pipeline.StatusInvalid: {pipeline.ErrMalformed, seal.ErrMalformed, seal.ErrNotSealed, seal.ErrChanged, seal.ErrID, seal.ErrRoute, seal.ErrSignature,
			seal.ErrSender, seal.ErrTime, seal.ErrEpoch, seal.ErrTooLarge},
		pipeline.StatusRefused: {seal.ErrRevoked},
		pipeline.StatusUnavailable: {seal.ErrWrongKey, seal.ErrUntrusted, seal.ErrExpired, seal.ErrNotYetValid, seal.ErrUndecided, seal.ErrReceiver, seal.ErrVersion,
			seal.ErrSuite, future, fmt.Errorf("anything else")},
	} {
		for _, err := range list {
			if got := judge(fmt.Errorf("open: %w", err)); got != want {
				t.Errorf("%v: %s, want %s", err, got, want)
			}
		}
	}
}

func TestTroublePasses(t *testing.T) {
	var tr trouble
	now := time.Now()
	if why := tr.current(now); why != "" {
		t.Errorf("at first: %s", why)
	}
	tr.note("a key is missing", now)
	if why := tr.current(now.Add(pipeline.RetryInterval)); why == "" {
		t.Error("it passes before the next attempt")
	}
	if why := tr.current(now.Add(3 * pipeline.RetryInterval)); why != "" {
		t.Errorf("it never passes: %s", why)
	}
}
