package mainapi

import (
	"context"
	"net/http"
	"time"
)

var zeroTime = time.Time{}.Format(time.RFC3339)

// OmitEmpty is a RequestEditorFn that takes parameters without a value out of a query. The
// generated client sends every one of them, and a filter that is empty, or a limit of 0, is not none
// but a wrong one.
func OmitEmpty(_ context.Context, r *http.Request) error {
	query := r.URL.Query()
	for name, values := range query {
		if len(values) == 1 && (values[0] == "" || values[0] == zeroTime || name == "limit" && values[0] == "0") {
			query.Del(name)
		}
	}
	r.URL.RawQuery = query.Encode()
	return nil
}
