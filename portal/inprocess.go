package portal

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// InProcess is a transport to a handler in the same process. The body of an answer arrives
// as the handler writes it, so streams work, and so do deadlines of writes.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(httpkit.Relayed(r.Context()))
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	in.Host, in.URL.Scheme, in.URL.Host = r.URL.Host, "", ""
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Body == nil {
		in.Body = http.NoBody
	}
	near, far := net.Pipe()
	w := &inProcessWriter{conn: far, header: make(http.Header), ready: make(chan struct{})}
	go func() {
		// The handler's reader may leave first; then its writes fail.
		defer in.Body.Close()
		defer w.end()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	// A handler that ends because its caller has left has not answered: both may be true here.
	if err := r.Context().Err(); err != nil {
		near.Close()
		cancel()
		return nil, err
	}
	var body io.ReadCloser = &partsBody{parts: w.parts, cancel: cancel}
	switch {
	case w.status == 0:
		near.Close()
		cancel()
		return nil, errors.New("the handler ended without an answer")
	case w.parts == nil:
		context.AfterFunc(ctx, func() { near.Close() })
		body = &inProcessBody{conn: near, writer: w, cancel: cancel}
	}
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: -1, Body: body, Request: r}, nil
}

// inProcessBody is the body of an answer. It ends with an error if the handler has given up.
type inProcessBody struct {
	conn   net.Conn
	writer *inProcessWriter
	cancel context.CancelFunc // of the handler's context
}

func (b *inProcessBody) Read(p []byte) (int, error) {
	n, err := b.conn.Read(p)
	if errors.Is(err, io.EOF) && b.writer.failed {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *inProcessBody) Close() error {
	b.cancel()
	return b.conn.Close()
}

// partsBody is the body of an answer that its handler has handed over.
type partsBody struct {
	parts  <-chan []byte
	rest   []byte // of a part that is read
	cancel context.CancelFunc
}

func (b *partsBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		b.rest = <-b.parts
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, so that a reader that waits for a part needs no buffer.
func (b *partsBody) WriteTo(w io.Writer) (written int64, err error) {
	if len(b.rest) == 0 {
		b.rest = <-b.parts
	}
	for len(b.rest) > 0 {
		n, err := w.Write(b.rest)
		written += int64(n)
		if err != nil {
			return written, err
		}
		b.rest = <-b.parts
	}
	return written, nil
}

func (b *partsBody) Close() error {
	b.cancel()
	return nil
}

// inProcessWriter is the http.ResponseWriter of a handler.
type inProcessWriter struct {
	conn   net.Conn
	header http.Header
	sent   http.Header // header as it was at WriteHeader
	status int
	parts  <-chan []byte // the body, if it was handed over
	failed bool          // set before conn is closed
	ready  chan struct{} // closed when status is set, or the handler has ended
}

func (w *inProcessWriter) Header() http.Header { return w.header }

func (w *inProcessWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	}
}

func (w *inProcessWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.conn.Write(p)
}

// Flush implements http.Flusher. A write has arrived when it returns.
func (w *inProcessWriter) Flush() { w.WriteHeader(http.StatusOK) }

// TakeOver is for httpkit.HandOver.
func (w *inProcessWriter) TakeOver(parts <-chan []byte) {
	w.parts = parts
	w.WriteHeader(http.StatusOK)
}

// SetWriteDeadline is for http.ResponseController.
func (w *inProcessWriter) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// SetReadDeadline is for http.ResponseController. The body is there already.
func (w *inProcessWriter) SetReadDeadline(time.Time) error { return nil }

// end completes the answer when the handler returns, or panics as it does to give up.
func (w *inProcessWriter) end() {
	p := recover()
	w.failed = p != nil
	if p == nil {
		w.WriteHeader(http.StatusOK)
	} else if w.status == 0 {
		close(w.ready)
	}
	w.conn.Close()
}
