package httpkit

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Style is the form of a route's errors.
type Style uint8

// The styles.
const (
	// Problem is RFC 9457: application/problem+json with code, request_id and errors.
	Problem Style = iota
	// Plain is the design documents' form (specification 0.5 and 0.6).
	Plain
)

type problem struct {
	Type       string  `json:"type"`
	Title      string  `json:"title"`
	Status     int     `json:"status"`
	Detail     string  `json:"detail,omitempty"`
	Code       Code    `json:"code"`
	RequestID  string  `json:"request_id"`
	RetryAfter int64   `json:"retry_after,omitempty"`
	Errors     []Field `json:"errors,omitempty"`

	SecondFactorToken string `json:"second_factor_token,omitempty"`
}

type plain struct {
	Error      Code         `json:"error"`
	Message    string       `json:"message"`
	Detail     any          `json:"detail"`
	Details    plainDetails `json:"details,omitzero"`
	StatusCode int          `json:"status_code"`
	Timestamp  Time         `json:"timestamp"`
	RequestID  string       `json:"request_id"`
	RetryAfter int64        `json:"retry_after,omitempty"`
}

type plainDetails struct {
	Field string `json:"field,omitempty"`
}

// WriteError answers with an error, in the style of the request's route. What the answer
// does not say goes to the request's log line.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e := ErrorOf(err)
	q := requestOf(r.Context())
	q.failed = err
	if q.route != nil && q.route.options.OnError != nil {
		q.route.options.OnError(e)
	}
	drain(w, r)
	h := w.Header()
	if e.Close {
		h.Set("Connection", "close")
	}
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	retry := int64((e.RetryAfter + time.Second - 1) / time.Second)
	if retry > 0 {
		h.Set("Retry-After", strconv.FormatInt(retry, 10))
	}
	h.Set("Cache-Control", "no-store")
	status := e.status()
	if q.route != nil && q.route.router.cfg.ErrorPage != nil {
		q.route.router.cfg.ErrorPage(w, r, status, e)
		return
	}
	if q.style == Problem {
		writeJSON(w, "application/problem+json", status, problem{
			Type: "urn:sealmq:error:" + string(e.Code), Title: http.StatusText(status), Status: status, Detail: e.Message,
			Code: e.Code, RequestID: q.id, RetryAfter: retry, Errors: e.Fields, SecondFactorToken: e.SecondFactorToken,
		})
		return
	}
	body := plain{Error: e.Code, Message: e.Message, Detail: e.Message, StatusCode: status, Timestamp: Time{q.now()}, RequestID: q.id, RetryAfter: retry}
	if len(e.Fields) > 0 {
		list := make([]Field, len(e.Fields))
		for i, f := range e.Fields {
			list[i] = f
			if f.Type == "value_error" {
				list[i].Msg = "Value error, " + f.Msg
			}
		}
		body.Detail = list
		loc := e.Fields[0].Loc
		if name, ok := loc[len(loc)-1].(string); ok && len(loc) > 1 {
			body.Details.Field = name
		}
	}
	writeJSON(w, "application/json", status, body)
}

// Bounds of what an error waits for. Tests wait longer.
var drainTimeout = time.Second

const maxDrain = 1 << 20

// drain reads the rest of a body that is not very large. Over HTTP/2 an answer to a body that is
// still on its way resets the stream, and some clients drop the answer then. Over HTTP/1.1 the
// server itself reads on.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxDrain {
		return
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout)) == nil {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // whatever is wrong with the body, the answer stands
	}
}

// WriteJSON answers with a value as JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	writeJSON(w, "application/json", status, v)
}

func writeJSON(w http.ResponseWriter, contentType string, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // our own types only: a mistake of ours, not the peer's
		panic(err)
	}
	WriteBytes(w, contentType, status, append(data, '\n'))
}

// WriteBytes answers with a body that is ready.
func WriteBytes(w http.ResponseWriter, contentType string, status int, body []byte) {
	h := w.Header()
	values := []string{contentType, strconv.Itoa(len(body))}
	h["Content-Type"], h["Content-Length"] = values[0:1:1], values[1:2:2]
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the peer is gone
}

// Time is a time as the API sends it: RFC 3339 in UTC with Z, up to microseconds.
type Time struct{ time.Time }

// TimeLayout is the layout of Time.
const TimeLayout = "2006-01-02T15:04:05.999999Z"

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"`+TimeLayout+`"`), nil
}

// ParseTime reads a time as the API takes it: with Z, with an offset, or without a zone,
// which means UTC.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999999", strings.Replace(s, " ", "T", 1))
	}
	return t.UTC(), err
}
