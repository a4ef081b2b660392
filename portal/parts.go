package portal

import (
	"net/url"
	"slices"
	"time"
)

// What templates/parts show. A handler fills these, and its template names the part:
// {{template "form" .Form}}.

// form is a form that is posted.
type form struct {
	Action string // an address, from url
	Fields []field
	// More are fields that few need. They are folded below MoreText unless one is filled or wrong.
	More     []field
	MoreText string
	Submit   string
	// Error is about the form as a whole.
	Error string
	// Danger marks what cannot be undone.
	Danger bool
	// Cancel is the address that leads away; empty for none.
	Cancel string
	Wide   bool
	// Files says that a field is a file.
	Files bool
}

// field is one value of a form, or of a filter.
type field struct {
	Name, Label string
	// Kind is that of an input (default text), or textarea, select, check, hidden.
	Kind                      string
	Value                     string
	Hint, Error               string
	Autocomplete, Placeholder string
	// Match is what must be typed before the form can be sent.
	Match    string
	Options  []option
	Max      int
	Required bool
	Checked  bool
	Focus    bool
	Code     bool // a code or key: in the fixed font
	Grow     bool // takes the room that is left, in a filter
}

// option is a choice of a select.
type option struct {
	Value, Text string
	Selected    bool
}

// options makes the choices of a select from pairs of value and text.
func options(selected string, pairs ...string) (list []option) {
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, option{pairs[i], pairs[i+1], pairs[i] == selected})
	}
	return list
}

// with puts errors to the fields that they are about. What no field takes is the form's.
func (f form) with(problems fieldErrors) form {
	f.Error = problems[""]
	known := map[string]bool{"": true}
	for _, list := range [][]field{f.Fields, f.More} {
		for i := range list {
			name := list[i].Name
			list[i].Error = problems[name]
			known[name] = list[i].Kind != "hidden"
		}
	}
	for name, text := range problems {
		if !known[name] && f.Error == "" {
			f.Error = text
		}
	}
	return f
}

// Opened reports whether the folded fields are shown at once.
func (f form) Opened() bool {
	return slices.ContainsFunc(f.More, func(x field) bool {
		return x.Error != "" || x.Checked || x.Value != "" && x.Kind != "hidden" || len(x.Options) > 0 && !x.Options[0].Selected && slices.ContainsFunc(x.Options, func(o option) bool { return o.Selected })
	})
}

// filters are the fields above a list. They stand in the address.
type filters struct {
	Action string
	Fields []field
	// Found says how many entries there are.
	Found string
	// Clear is the address without filters; empty if none is set.
	Clear string
}

// searchFilter is the filter of a list that has a text to search for, and nothing else.
func (v *visit) searchFilter(path, label, found string) filters {
	text := v.r.URL.Query().Get("search")
	f := filters{Action: v.portal.url(path), Found: found, Fields: []field{{Name: "search", Label: label, Kind: "search", Value: text, Max: 255, Grow: true}}}
	if text != "" {
		f.Clear = v.portal.url(path)
	}
	return f
}

// listView is a page with a list.
type listView[Row any] struct {
	Filters filters
	Rows    []Row
	Pager   pager
	Empty   empty // for a list without rows
	// AsOf is when the list was so, and Self the address that brings it up to date, of a list that
	// does so by itself.
	AsOf time.Time
	Self string
}

// pageSize is how many rows a page of a list has.
const pageSize = 50

// rows are the rows of a table for what the API has listed.
func rows[T, Row any](items []T, row func(*T) Row) (list []Row) {
	for i := range items {
		list = append(list, row(&items[i]))
	}
	return list
}

// pager leads to the neighbours of a page of a list. An address may be empty.
type pager struct{ First, Newer, Older, Next string }

// pagerOf leads to the first page and to the next one. q is the query of the page itself.
func pagerOf(q url.Values, next string) (p pager) {
	if q.Get("cursor") != "" {
		p.First = with(q, "cursor", "")
	}
	if next != "" {
		p.Next = with(q, "cursor", next)
	}
	return p
}

// state is a word with a dot. Tone is good, warn, bad or empty.
type state struct{ Tone, Text string }

// stateOf is a state in words, as far as there are words for it.
func stateOf[S ~string](words map[S]state, s S) state {
	if found, ok := words[s]; ok {
		return found
	}
	return state{"", string(s)}
}

// empty says what would fill a list, and how.
type empty struct {
	Title, Text string
	Command     string // a command to copy
	Link        *link
}

// dangerView is a page that says what a dangerous act will do, and asks for it.
type dangerView struct {
	Title string
	Text  []string
	Form  form
}

// with is an address with one value of its query replaced.
func with(query url.Values, name, value string) string {
	q := make(url.Values, len(query))
	for n, v := range query {
		if n != name {
			q[n] = v
		}
	}
	if value != "" {
		q.Set(name, value)
	}
	return "?" + q.Encode()
}
