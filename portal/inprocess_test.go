package portal

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
)

func get(t *testing.T, ctx context.Context, h http.HandlerFunc) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://main.invalid/a%2Fb?q=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return InProcess(h).RoundTrip(r)
}

func TestInProcess(t *testing.T) {
	resp, err := get(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Path", r.URL.EscapedPath()+" "+r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Path", "too late")
		io.WriteString(w, "short and stout")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "short and stout" || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Path") != "/a%2Fb /a%2Fb?q=1" {
		t.Errorf("got %d, %q, %v, %v", resp.StatusCode, body, resp.Header, err)
	}
}

// TestInProcessStreams: what a handler writes arrives before it ends, and it learns that its
// reader has left.
func TestInProcessStreams(t *testing.T) {
	ended := make(chan error, 1)
	resp, err := get(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		for range 2 {
			io.WriteString(w, "data: 1\n\n")
			if err := c.Flush(); err != nil {
				t.Error(err)
			}
		}
		_, err := io.WriteString(w, "data: 2\n\n")
		ended <- err
	})
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 18)
	if _, err := io.ReadFull(resp.Body, text); err != nil || string(text) != "data: 1\n\ndata: 1\n\n" {
		t.Errorf("read %q, %v", text, err)
	}
	resp.Body.Close()
	if err := <-ended; err == nil {
		t.Error("the handler did not learn that its reader has left")
	}
}

// TestInProcessHandedOver: the body comes from the channel after the handler has returned, and
// closing it ends the request.
func TestInProcessHandedOver(t *testing.T) {
	open := func(parts chan []byte) (*http.Response, context.Context) {
		t.Helper()
		var ctx context.Context
		resp, err := get(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
			ctx = r.Context()
			w.Header().Set("X-Kind", "parts")
			if !httpkit.HandOver(&unwrapper{w}, parts) {
				t.Error("it is not handed over")
			}
		})
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("X-Kind") != "parts" {
			t.Fatalf("%+v, %v", resp, err)
		}
		return resp, ctx
	}
	parts := make(chan []byte, 3)
	resp, ctx := open(parts)
	parts <- []byte("one ")
	parts <- []byte("two ")
	parts <- []byte("three")
	close(parts)
	var text strings.Builder
	first := make([]byte, 2)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(&text, resp.Body); n != 11 || err != nil || string(first)+text.String() != "one two three" {
		t.Errorf("%q and %q, %v", first, &text, err)
	}
	if n, err := resp.Body.Read(first); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if ctx.Err() != nil {
		t.Error("the request has ended before its body was closed")
	}
	resp.Body.Close()
	if ctx.Err() == nil {
		t.Error("the handler does not learn that its reader has left")
	}
	if httpkit.HandOver(httptest.NewRecorder(), parts) {
		t.Error("an answer over the network is handed over")
	}
}

type unwrapper struct{ http.ResponseWriter }

func (u *unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func TestInProcessGivesUp(t *testing.T) {
	if _, err := get(t, t.Context(), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); err == nil {
		t.Error("no error for an answer that never began")
	}
	resp, err := get(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half an answer ends with %v", err)
	}
	// The handler ends as its caller leaves; which of the two is seen first must not matter.
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err = get(t, ctx, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a call that was given up ends with %v", err)
		}
	}
}

func TestInProcessDeadline(t *testing.T) {
	failed := make(chan error, 1)
	resp, err := get(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, err := io.WriteString(w, strings.Repeat("x", 10))
		failed <- err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write that nobody reads ends with %v", err)
	}
}
