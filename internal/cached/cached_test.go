package cached_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/internal/cached"
)

func TestValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v cached.Value[int]
		calls, fails := 0, false
		get := func() int {
			return v.Get(time.Second, func() (int, error) {
				calls++ // no two run at a time
				time.Sleep(time.Second / 2)
				if fails {
					return 0, errors.New("away")
				}
				return calls, nil
			})
		}
		var asking sync.WaitGroup
		for range 10 {
			asking.Go(func() {
				if got := get(); got != 1 {
					t.Errorf("one of ten got %d", got)
				}
			})
		}
		asking.Wait()
		time.Sleep(time.Second)
		if got := get(); got != 2 || calls != 2 {
			t.Errorf("a second later: %d after %d calls", got, calls)
		}
		fails = true
		time.Sleep(time.Second)
		for range 2 {
			if got := get(); got != 2 || calls != 3 {
				t.Errorf("after an error: %d after %d calls", got, calls)
			}
		}
	})
}
