package brokerview

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// Kind is what queues have in common.
type Kind string

// The kinds.
const (
	Waiting Kind = "waiting" // messages wait
	Idle    Kind = "idle"    // messages wait and nobody consumes
	Growing Kind = "growing"
	Paused  Kind = "paused"
	Dead    Kind = "dead" // takes dead letters
)

func (k Kind) has(q *Queue) bool {
	switch k {
	case "":
		return true
	case Waiting:
		return q.Ready > 0
	case Idle:
		return q.Ready > 0 && q.Consumers == 0
	case Growing:
		return q.Growing
	case Paused:
		return q.Paused
	case Dead:
		return DeadLettersOf(q.Name) != ""
	}
	return false
}

// DeadLettersOf is the queue whose dead letters a queue takes, or empty.
func DeadLettersOf(queue string) string {
	of, ok := strings.CutSuffix(queue, sealmq.DeadSuffix)
	if !ok {
		return ""
	}
	return of
}

// orders are what queues can be sorted by: figures come first, names decide among equals.
var orders = map[string]func(q *Queue) float64{
	"name":      func(*Queue) float64 { return 0 },
	"ready":     func(q *Queue) float64 { return float64(q.Ready) },
	"unacked":   func(q *Queue) float64 { return float64(q.Unacked) },
	"bytes":     func(q *Queue) float64 { return float64(q.Bytes) },
	"consumers": func(q *Queue) float64 { return float64(q.Consumers) },
	"in":        func(q *Queue) float64 { return q.In },
	"out":       func(q *Queue) float64 { return q.Out },
	"oldest": func(q *Queue) float64 { // how old it is, from a time that does not move
		if q.Oldest.IsZero() {
			return 0
		}
		return float64(math.MaxInt32)*1000 - float64(q.Oldest.UnixMilli())
	},
}

// Filter says which queues are wanted, and in which order.
type Filter struct {
	Search string // a part of the name or the owner, in any case
	Kind   Kind
	Sort   string // empty: name
	Desc   bool
	Page
}

// Page says which part of a list is wanted.
type Page struct {
	Limit  int
	Cursor string
}

// List is a part of a list.
type List[T any] struct {
	Items []T
	AsOf  time.Time
	Total int    // of all parts
	Next  string // cursor of the next part, or empty
}

// Queues lists queues.
func (v *View) Queues(ctx context.Context, f Filter) (List[Queue], error) {
	f.Sort = cmp.Or(f.Sort, "name")
	figure := orders[f.Sort]
	if figure == nil {
		return List[Queue]{}, &sealmq.Error{Code: sealmq.BadArgument, Message: "queues cannot be sorted by that"}
	}
	s, err := v.look(ctx)
	if err != nil {
		return List[Queue]{}, err
	}
	search := strings.ToLower(f.Search)
	var rows []row[Queue]
	for i := range s.queues {
		q := &s.queues[i]
		if f.Kind.has(q) && contains(search, q.Name, q.Owner) {
			rows = append(rows, row[Queue]{position{figure(q), q.Name}, q})
		}
	}
	return part(rows, f.Page, f.Sort, f.Desc, s.at)
}

// Exchanges lists exchanges by name.
func (v *View) Exchanges(ctx context.Context, search string, p Page) (List[sealmq.ExchangeInfo], error) {
	list, err := answer(ctx, v.ask, func(ctx context.Context, m sealmq.Manager) ([]sealmq.ExchangeInfo, error) { return m.Exchanges(ctx) })
	if err != nil {
		return List[sealmq.ExchangeInfo]{}, err
	}
	search = strings.ToLower(search)
	var rows []row[sealmq.ExchangeInfo]
	for i := range list {
		if contains(search, list[i].Name) {
			rows = append(rows, row[sealmq.ExchangeInfo]{position{0, list[i].Name}, &list[i]})
		}
	}
	return part(rows, p, "name", false, v.cfg.Now())
}

// Connections lists connections by id.
func (v *View) Connections(ctx context.Context, search string, p Page) (List[Connection], error) {
	s, err := v.look(ctx)
	if err != nil {
		return List[Connection]{}, err
	}
	search = strings.ToLower(search)
	var rows []row[Connection]
	for i := range s.connections {
		c := &s.connections[i]
		if contains(search, c.Client, c.Address) || contains(search, c.Consumes...) {
			rows = append(rows, row[Connection]{position{float64(c.ID), ""}, c})
		}
	}
	return part(rows, p, "name", false, s.at)
}

// contains reports whether one of texts has what is searched for, which is in lower case.
func contains(search string, texts ...string) bool {
	return search == "" && len(texts) > 0 || slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), search) })
}

// position is the place of an entry in a list.
type position struct {
	Figure float64 `json:"f,omitempty"`
	Name   string  `json:"n,omitempty"`
}

// compare has names ascending among equal figures, unless names alone decide.
func (p position) compare(o position, sort string, desc bool) int {
	byFigure, byName := cmp.Compare(p.Figure, o.Figure), strings.Compare(p.Name, o.Name)
	if desc {
		byFigure = -byFigure
	}
	if desc && sort == "name" {
		byName = -byName
	}
	return cmp.Or(byFigure, byName)
}

type row[T any] struct {
	position
	value *T
}

// part sorts rows and takes a part of them. Cursors say where the last one was, so that entries
// which come or go shift nothing.
func part[T any](rows []row[T], p Page, sort string, desc bool, at time.Time) (list List[T], err error) {
	list = List[T]{AsOf: at, Total: len(rows), Items: []T{}}
	slices.SortFunc(rows, func(a, b row[T]) int { return a.compare(b.position, sort, desc) })
	if p.Cursor != "" {
		after, err := parsePosition(p.Cursor)
		if err != nil {
			return list, err
		}
		i, found := slices.BinarySearchFunc(rows, after, func(r row[T], after position) int { return r.compare(after, sort, desc) })
		if found {
			i++
		}
		rows = rows[i:]
	}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		list.Next = rows[len(rows)-1].cursor()
	}
	for _, r := range rows {
		list.Items = append(list.Items, *r.value)
	}
	return list, nil
}

func (p position) cursor() string {
	text, _ := json.Marshal(p) // numbers and text are always encoded
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePosition(cursor string) (p position, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return p, badCursor()
	}
	return p, nil
}

func badCursor() error {
	return &sealmq.Error{Code: sealmq.BadArgument, Message: "the cursor is not valid: use one from an earlier page, or none"}
}
