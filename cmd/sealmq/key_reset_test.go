package main

import (
	"errors"
	"testing"

	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// A broker that says that it has reset a key, and has not, is found out at once.
func TestResetThatTheLogDoesNotShow(t *testing.T) {
	records := []keydir.Record{{Index: 0, Proven: true, Suite: "s", Serial: 1}, {Index: 1, Reset: true, Proven: true, Suite: "s", Serial: 1}, {Index: 2}, {Index: 3, Reset: true}}
	if list, err := resetsAt(records, []int64{1, 3}); err != nil || len(list) != 2 || list[0].Record != 1 || list[1].Suite != keylog.Unproven {
		t.Errorf("%+v, %v", list, err)
	}
	for _, indexes := range [][]int64{nil, {0}, {1, 2}, {4}, {1, 1}} {
		if list, err := resetsAt(records, indexes); !errors.Is(err, keydir.ErrLog) || hintFor(err) == "" {
			t.Errorf("%v: %+v, %v", indexes, list, err)
		}
	}
}
