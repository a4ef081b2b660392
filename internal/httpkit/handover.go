package httpkit

import "net/http"

// HandOver gives the body of an answer to a caller in this process as a channel: the caller reads
// parts until they are closed. The handler sets the header before and returns after, so no
// goroutine of it waits for the next part. Their sender must close them when the request's context
// ends. If the caller is in another process, HandOver does nothing and returns false.
func HandOver(w http.ResponseWriter, parts <-chan []byte) bool {
	for {
		switch t := w.(type) {
		case interface{ TakeOver(parts <-chan []byte) }:
			t.TakeOver(parts)
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
