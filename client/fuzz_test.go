package client_test

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

// FuzzReplies lets a broker answer with arbitrary bytes. The client must end or go on, and
// must take nothing for a confirm but the confirm.
func FuzzReplies(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			fk := fakebroker.New(t)
			c, p := fk.Open(client.Config{MaxLineBytes: 1000, GiveUpAfter: time.Millisecond})
			fk.Refuse = 1 << 30
			r := newResults()
			r.publish(t, c, "a", "b")
			p.Expect(lines("a", "b")...)
			io.Copy(p.Conn, bytes.NewReader(data)) // the client may hang up in the middle
			synctest.Wait()
			p.Conn.Close()
			<-time.After(time.Minute) // the bubble's
			c.Close()
			replies := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
			replies = replies[:len(replies)-1]
			for _, id := range []string{"a", "b"} {
				if got := <-r.c; got == id && !slices.Contains(replies, "ACK "+id) {
					t.Errorf("%s was taken for confirmed", id)
				}
			}
		})
	})
}

func TestFuzzSeedsAreThere(t *testing.T) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzReplies")
	if err != nil || len(seeds) < 5 {
		t.Errorf("%d seeds, %v", len(seeds), err)
	}
}
