package mainserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// The aliases are the paths and shapes of the design documents, on top of the operations of
// the API.

// maxAliasBatch bounds their calls with many items.
const maxAliasBatch = 4 << 20

// aliases adds routes that answer in the design documents' form.
type aliases struct {
	h  *handler
	rt *httpkit.Router
}

// alias answers a request with a value for JSON, or an error.
type alias func(r *http.Request) (any, error)

// handle adds paths of one operation. Metrics know them by the last.
func (a *aliases) handle(roles []sealmq.Role, maxBody int64, answer alias, patterns ...string) {
	o := httpkit.Options{Roles: roles, MaxBody: maxBody}
	if roles == nil {
		o.Access = httpkit.Public
	}
	a.add(o, answer, patterns...)
}

// add is handle with all options. An answer of nil has no content.
func (a *aliases) add(o httpkit.Options, answer alias, patterns ...string) {
	o.Style = httpkit.Plain
	_, o.Endpoint, _ = strings.Cut(patterns[len(patterns)-1], " ")
	o.Endpoint = strings.TrimSuffix(o.Endpoint, "{$}")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r.WithContext(withRequest(r.Context(), w, r)))
		if err != nil {
			writeError(w, r, err)
			return
		}
		if v == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		httpkit.WriteJSON(w, http.StatusOK, v)
	})
	for _, pattern := range patterns {
		a.rt.Handle(pattern, o, h)
	}
}

func (h *handler) addAliases(rt *httpkit.Router) {
	a := &aliases{h, rt}
	a.addMessages()
	a.addCertificates()
	a.addOperations()
	a.addDatabase()
	a.addBackups()
	a.addPortalMessages()
	a.addAccounts()
	a.addUsers()
}

// object reads a body that is one JSON object.
func object(r *http.Request) (map[string]any, error) {
	body, err := httpkit.ReadBody(r, nil)
	if err == nil {
		err = httpkit.CheckJSON(body)
	}
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	var o map[string]any
	if err := d.Decode(&o); err != nil || o == nil {
		return nil, httpkit.Invalid(httpkit.Field{Type: "dict_type", Loc: []any{"body"}, Msg: "The body must be a JSON object"})
	}
	return o, nil
}

// optionalObject is object, but a body may be missing.
func optionalObject(r *http.Request) (map[string]any, error) {
	body, err := httpkit.ReadBody(r, nil)
	if err != nil || len(body) == 0 {
		return nil, err
	}
	r.Body = http.NoBody
	var o map[string]any
	if err := errors.Join(httpkit.CheckJSON(body), json.Unmarshal(body, &o)); err != nil {
		return nil, httpkit.Invalid(httpkit.Field{Type: "json_invalid", Loc: []any{"body", 0}, Msg: "The body must be a JSON object"})
	}
	return o, nil
}

// fields reads the values of an object, and remembers what is wrong with them.
type fields struct {
	o      map[string]any
	loc    []any
	bad    []httpkit.Field
	failed error // there is no object to read from
}

// bodyOf are the fields of a body. If that is no JSON object, err says so, and all fields are
// missing.
func bodyOf(r *http.Request) *fields {
	o, err := object(r)
	return &fields{o: o, loc: []any{"body"}, failed: err}
}

func fieldsIn(o map[string]any, loc ...any) *fields {
	return &fields{o: o, loc: append([]any{"body"}, loc...)}
}

func (f *fields) wrong(kind, name, msg string) {
	f.bad = append(f.bad, httpkit.Field{Type: kind, Loc: append(append([]any(nil), f.loc...), name), Msg: msg})
}

// err is what is wrong, or nil.
func (f *fields) err() error {
	if f.failed != nil || len(f.bad) == 0 {
		return f.failed
	}
	return httpkit.Invalid(f.bad...)
}

// text is a string of at most some bytes. It may be missing or null unless it is required.
func (f *fields) text(name string, most int, required bool) string {
	v := f.o[name]
	s, ok := v.(string)
	switch {
	case v == nil && !required:
	case v == nil || ok && s == "" && required:
		f.wrong("missing", name, "Field required")
	case !ok:
		f.wrong("string_type", name, "The value must be of the type string")
	case len(s) > most:
		f.wrong("string_too_long", name, fmt.Sprintf("The value must have %d characters or fewer", most))
		return ""
	}
	return s
}

// whole is a whole number, or missing.
func (f *fields) whole(name string, least, most, missing int) int {
	v := f.o[name]
	n, ok := v.(float64)
	switch {
	case v == nil:
		return missing
	case !ok || n != float64(int64(n)):
		f.wrong("int_type", name, "The value must be of the type integer")
	case n < float64(least):
		f.wrong("greater_than_equal", name, fmt.Sprintf("The value must be %d or more", least))
	case n > float64(most):
		f.wrong("less_than_equal", name, fmt.Sprintf("The value must be %d or less", most))
	default:
		return int(n)
	}
	return missing
}

// moment is a time, or the zero time if it is missing.
func (f *fields) moment(name string) (t time.Time) {
	if s := f.text(name, 64, false); s != "" {
		var err error
		if t, err = httpkit.ParseTime(s); err != nil {
			f.wrong("value_error", name, "The value must be a time as in RFC 3339")
		}
	}
	return t
}

// queryInt is a whole number of a query.
func queryInt(r *http.Request, name string, least, most, missing int) (int, error) {
	q := r.URL.Query()
	if !q.Has(name) {
		return missing, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	loc := []any{"query", name}
	switch {
	case err != nil:
		return 0, httpkit.Invalid(httpkit.Field{Type: "int_parsing", Loc: loc, Msg: "The value must be a whole number"})
	case n < least:
		return 0, httpkit.Invalid(httpkit.Field{Type: "greater_than_equal", Loc: loc, Msg: fmt.Sprintf("The value must be %d or more", least)})
	case n > most:
		return 0, httpkit.Invalid(httpkit.Field{Type: "less_than_equal", Loc: loc, Msg: fmt.Sprintf("The value must be %d or less", most)})
	}
	return n, nil
}
