package redisqueue

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealmq/sealmq/pipeline"
)

// tried is an item with one attempt more. Members that this version does not know stay as they
// are.
func tried(body, why string, next time.Time) string {
	it, err := parse(body)
	if err != nil {
		return body
	}
	return withMembers(body, map[string]any{"attempt_count": it.AttemptCount + 1, "last_error": why, "next_attempt_at": next.UTC().Format(time.RFC3339Nano)})
}

// fresh is an item without attempts.
func fresh(body string) string {
	if _, err := parse(body); err != nil {
		return body
	}
	return withMembers(body, map[string]any{"attempt_count": 0, "last_error": nil, "next_attempt_at": nil})
}

// withMembers sets members of a JSON object, or removes those that are nil, and copies
// all others.
func withMembers(body string, set map[string]any) string {
	d := jsontext.NewDecoder(bytes.NewReader([]byte(body)))
	out := []byte{'{'}
	add := func(name, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return body
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return body
		}
		name = name.Clone()
		value, err := d.ReadValue()
		if err != nil {
			return body
		}
		var plain string
		if json.Unmarshal(name, &plain) != nil {
			return body
		}
		if _, ok := set[plain]; !ok {
			add(name, value)
		}
	}
	for _, name := range []string{"attempt_count", "last_error", "next_attempt_at"} {
		if v := set[name]; v != nil {
			value, err := json.Marshal(v)
			if err != nil {
				return body
			}
			add([]byte(`"`+name+`"`), value)
		}
	}
	return string(append(out, '}'))
}

// entry is an element of the dead list (specification 4.1).
type entry struct {
	Item json.RawMessage `json:"item,omitempty"`
	// Raw has the bytes of what is not JSON.
	Raw    []byte    `json:"raw,omitempty"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Worker string    `json:"worker_id,omitempty"`
}

func deadEntry(body, why, worker string, now time.Time) string {
	e := entry{Reason: why, At: now.UTC(), Worker: worker}
	if jsontext.Value(body).IsValid() {
		e.Item = json.RawMessage(body)
	} else {
		e.Raw = []byte(body)
	}
	b, err := json.Marshal(e)
	if err != nil { // there is no such entry
		return body
	}
	return string(b)
}

// readEntry reads an element of the dead list. What another program put there without an entry
// around it is an item.
func readEntry(text string) (body, reason string) {
	var e entry
	if err := json.Unmarshal([]byte(text), &e); err != nil || len(e.Item)+len(e.Raw) == 0 {
		return text, ""
	}
	if len(e.Item) > 0 {
		return string(e.Item), e.Reason
	}
	return string(e.Raw), e.Reason
}

func deadItem(text string) (d pipeline.DeadItem) {
	body, reason := readEntry(text)
	d.Reason = reason
	d.Item, d.Err = parse(body)
	return d
}
