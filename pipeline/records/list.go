package records

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// Limits of lists.
const (
	// DefaultLimit and MaxLimit are for the entries of a page.
	DefaultLimit = 100
	MaxLimit     = 500
	// MinPrefix is the length of the shortest prefix of a message id.
	MinPrefix = 4
	// CountLimit is up to where Count counts rows.
	CountLimit = 10_000
	// maxExamined bounds the rows that one page looks at if no index has all conditions.
	maxExamined = 1000
	maxCursor   = 400
)

// Filter chooses messages. Empty fields choose all.
type Filter struct {
	Client string
	State  pipeline.State
	Domain string
	Number string // in clear; the whole number
	// NumberToken stands for a number: see Store.NumberToken. Number goes before it.
	NumberToken string
	ClientKey   string
	IDPrefix    string // MinPrefix characters or more
	// From and To bound the time of registration; To is not included.
	From, To time.Time
	// Limit is the length of a page; 0 is DefaultLimit.
	Limit int
	// Cursor continues behind an earlier page with the same filter.
	Cursor string
	// Bodies decrypts the texts.
	Bodies bool

	hashes []string // what the number may be stored as
}

// tokenAge is how long a token of a number can be searched with.
const tokenAge = 24 * time.Hour

// NumberToken returns what stands for a number in a Filter for a day, and can be shown: nothing
// leads from it to the number without the key of the numbers.
func (s *Store) NumberToken(number string) string {
	return s.numbers().Token(number, s.now().Add(tokenAge))
}

// ErrNumberToken says that a token of a number has expired, or is none.
var ErrNumberToken error = &sealmq.Error{Code: sealmq.BadArgument, Message: "the search for a number has expired: enter the number again"}

// Page is a part of a list.
type Page struct {
	Records []Record
	// Next is the cursor of the next page, or empty. A page may have fewer entries than its
	// limit, or none, and still have a next one: each looks at a bounded number of rows.
	Next string
}

// Record is a stored message.
type Record struct {
	RowID     int64
	ID        string
	Client    string
	ClientKey string
	Domain    string
	State     pipeline.State
	Attempts  int
	Error     string
	Worker    string
	Proxy     string // that accepted it; empty if that is not known
	// NumberMasked stands for the number: most digits are replaced.
	NumberMasked string
	// Body is the text, if it was asked for. Unreadable says that it cannot be decrypted.
	Body       string
	Unreadable bool
	Metadata   json.RawMessage
	// Sealed says that the message came sealed; KeyVersion is the key at rest.
	Sealed     bool
	KeyVersion uint16

	CreatedAt, QueuedAt        time.Time
	DeliveredAt, LastAttemptAt time.Time // zero if it was not
}

// ErrNotFound says that there is no such message, client or certificate.
var ErrNotFound = errors.New("not found")

// A position is where a page ends. Lists go by time and row, or by message id and row.
type position struct {
	Time int64  `json:"t,omitempty"`
	ID   string `json:"m,omitempty"`
	Row  int64  `json:"r"`
}

func (p position) cursor() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("records: internal error: " + err.Error()) // such structs cannot fail
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (p position, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(s) <= maxCursor {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || len(s) > maxCursor || p.Row < 1 || !utf8.ValidString(p.ID) {
		return p, invalid("the cursor is not valid: use one from an earlier page, or none")
	}
	return p, nil
}

// newer reports whether p comes before q in a list.
func (p position) newer(q position) bool {
	switch {
	case p.Time != q.Time:
		return p.Time > q.Time
	case p.ID != q.ID:
		return p.ID > q.ID
	}
	return p.Row > q.Row
}

// complete checks a filter, and completes it.
func (s *Store) complete(f *Filter) (err error) {
	switch {
	case f.Number != "":
		f.hashes = s.numbers().Candidates(f.Number)
	case f.NumberToken != "":
		if f.hashes, err = s.numbers().Hashes(f.NumberToken, s.now()); err != nil {
			return ErrNumberToken
		}
	}
	return f.check()
}

// check checks the rest of a filter.
func (f *Filter) check() error {
	f.Limit = cmp.Or(f.Limit, DefaultLimit)
	f.From, f.To = bound(f.From), bound(f.To)
	switch {
	case f.Limit < 1 || f.Limit > MaxLimit:
		return invalid("limit is not between 1 and 500")
	case f.State != "" && !known(f.State):
		return invalid("state is none of queued, processing, delivered and failed")
	case f.IDPrefix != "" && len(f.IDPrefix) < MinPrefix:
		return invalid("the prefix of a message id has at least 4 characters")
	}
	return nil
}

// matchesNothing reports whether a name is none that could be stored. The database would
// compare some of them as if they were another name.
func (f *Filter) matchesNothing() bool {
	for _, name := range []string{f.Client, f.Domain, f.Number, f.ClientKey, f.IDPrefix} {
		if name != "" && checkName("", name, maxName) != "" {
			return true
		}
	}
	return false
}

// List returns a page of messages, the newest first; with a prefix, in the order of ids, the
// highest first.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	if err := s.complete(&f); err != nil {
		return Page{}, err
	}
	if f.matchesNothing() {
		return Page{}, nil
	}
	domain := f.Domain
	if none, err := s.oneDomain(ctx, &f); none || err != nil {
		return Page{}, err
	}
	p := s.plan(&f)
	if f.Cursor != "" {
		at, err := parseCursor(f.Cursor)
		if err != nil {
			return Page{}, err
		}
		for i := range p.walks {
			p.walks[i] = s.after(p.walks[i], p.order, at)
		}
	}
	found, err := s.walk(ctx, p, f.Limit)
	if err != nil {
		return Page{}, s.d.coded("list messages", err)
	}
	var page Page
	if len(found) > f.Limit {
		found = found[:f.Limit]
		page.Next = found[f.Limit-1].cursor()
	} else if at, more, err := s.examined(ctx, p); err != nil {
		return Page{}, s.d.coded("list messages", err)
	} else if more {
		found = slices.DeleteFunc(found, func(q position) bool { return at.newer(q) })
		page.Next = at.cursor()
	}
	page.Records, err = s.fetch(ctx, found, f.Bodies)
	if domain != "" { // what came after the counts were read
		page.Records = slices.DeleteFunc(page.Records, func(r Record) bool { return r.Domain != domain })
	}
	return page, s.d.coded("read messages", err)
}

// walk finds up to limit+1 rows, in order.
func (s *Store) walk(ctx context.Context, p plan, limit int) (found []position, err error) {
	for _, w := range p.walks {
		query := "SELECT id, " + p.order + " FROM messages WHERE " + strings.Join(w.where, " AND ")
		tail := " ORDER BY " + p.order + " DESC, id DESC LIMIT ?"
		args := append(slices.Clip(w.args), limit+1)
		if len(p.rest.where) > 0 {
			query = "SELECT id, " + p.order + " FROM (SELECT id, " + p.order + p.needs + " FROM messages WHERE " +
				strings.Join(w.where, " AND ") + tail + ") examined WHERE " + strings.Join(p.rest.where, " AND ")
			args = append(slices.Clip(w.args), p.perWalk())
			args = append(append(args, p.rest.args...), limit+1)
		}
		err := each(ctx, s.read, query+tail, args, func(rows *sql.Rows) error {
			q, err := p.position(rows)
			found = append(found, q)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b position) int {
		if a.newer(b) {
			return -1
		}
		return 1
	})
	return found[:min(len(found), limit+1)], nil
}

func (p *plan) position(rows *sql.Rows) (q position, err error) {
	if p.order == "message_id" {
		return q, rows.Scan(&q.Row, &q.ID)
	}
	var at time.Time
	err = rows.Scan(&q.Row, moment{&at})
	q.Time = at.UnixMicro()
	return q, err
}

// examined is the position up to which all walks have looked at their rows, if one of them
// stopped before its end.
func (s *Store) examined(ctx context.Context, p plan) (at position, more bool, err error) {
	if len(p.rest.where) == 0 {
		return at, false, nil
	}
	for _, w := range p.walks {
		query := "SELECT id, " + p.order + " FROM messages WHERE " + strings.Join(w.where, " AND ") + " ORDER BY " + p.order + " DESC, id DESC LIMIT 1 OFFSET ?"
		err := each(ctx, s.read, query, append(slices.Clip(w.args), p.perWalk()-1), func(rows *sql.Rows) error {
			q, err := p.position(rows)
			if !more || q.newer(at) {
				at = q
			}
			more = true
			return err
		})
		if err != nil {
			return at, false, err
		}
	}
	return at, more, nil
}

const recordColumns = `SELECT id, message_id, client_id, client_key, domain, status, attempt_count, error_message, worker_id, proxy_id, sender_number_hashed,
	sender_number_enc, encrypted_body, encryption_key_version, sealed, metadata, created_at, queued_at, delivered_at, last_attempt_at FROM messages WHERE `

// fetch reads rows in the given order. A row that was deleted meanwhile is left out.
func (s *Store) fetch(ctx context.Context, found []position, bodies bool) (list []Record, err error) {
	ids := make([]int64, len(found))
	for i, p := range found {
		ids[i] = p.Row
	}
	byID := make(map[int64]Record)
	err = lists(ids, func(marks string, piece []any, _ int) error {
		return s.readRecords(ctx, "id IN "+marks, piece, bodies, func(r Record) { byID[r.RowID] = r })
	})
	for _, id := range ids {
		if r, ok := byID[id]; ok {
			list = append(list, r)
		}
	}
	return list, err
}

func (s *Store) readRecords(ctx context.Context, where string, args []any, bodies bool, use func(Record)) error {
	type stored struct {
		Record
		hash, number, body, metadata string
	}
	// Scope keys are read after the rows, with another connection.
	rows, err := all(ctx, s.read, func(r *stored) []any {
		return []any{&r.RowID, &r.ID, &r.Client, text{&r.ClientKey}, &r.Domain, &r.State, &r.Attempts, text{&r.Error}, text{&r.Worker}, text{&r.Proxy}, &r.hash,
			text{&r.number}, &r.body, &r.KeyVersion, &r.Sealed, text{&r.metadata}, moment{&r.CreatedAt}, moment{&r.QueuedAt}, moment{&r.DeliveredAt}, moment{&r.LastAttemptAt}}
	}, recordColumns+where, args...)
	if err != nil {
		return err
	}
	for _, r := range rows {
		r.NumberMasked = atrest.MaskHash(r.hash)
		if r.number != "" {
			if number, err := s.open(ctx, atrest.Number, r.ID, r.Client, r.KeyVersion, r.number); err == nil {
				r.NumberMasked = atrest.Mask(number)
			} else if !unreadable(err) {
				return err
			}
		}
		if bodies {
			if r.Body, err = s.open(ctx, atrest.Body, r.ID, r.Client, r.KeyVersion, r.body); err != nil && !unreadable(err) {
				return err
			}
			r.Unreadable = err != nil
			if r.metadata != "" {
				metadata, err := s.openMetadata(ctx, r.ID, r.Client, r.KeyVersion, r.metadata)
				if err != nil && !unreadable(err) {
					return err
				}
				r.Metadata, r.Unreadable = json.RawMessage(metadata), r.Unreadable || err != nil
			}
		}
		use(r.Record)
	}
	return nil
}

// Get returns a message with its text, or ErrNotFound. Without a client the id must be
// unique.
func (s *Store) Get(ctx context.Context, client, id string) (Record, error) {
	if checkName("", id, maxID) != "" || client != "" && checkName("", client, maxName) != "" {
		return Record{}, ErrNotFound
	}
	where, args := "message_id = ?", []any{id}
	if client != "" {
		where, args = "client_id = ? AND message_id = ?", []any{client, id}
	}
	var list []Record
	err := s.readRecords(ctx, where+" ORDER BY id LIMIT 2", args, true, func(r Record) { list = append(list, r) })
	switch {
	case err != nil:
		return Record{}, s.d.coded("read a message", err)
	case len(list) == 0:
		return Record{}, ErrNotFound
	case len(list) > 1:
		return Record{}, invalid("several clients have a message with this id; name the client")
	}
	return list[0], nil
}
