package sealmq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// queueOptionsJSON is the JSON form of QueueOptions.
type queueOptionsJSON struct {
	MaxMessages   int64    `json:"max_messages,omitempty"`
	MaxBytes      int64    `json:"max_bytes,omitempty"`
	TTL           string   `json:"ttl,omitempty"`
	DeliveryLimit uint32   `json:"delivery_limit,omitempty"`
	AckTimeout    string   `json:"ack_timeout,omitempty"`
	Prefetch      int      `json:"prefetch,omitempty"`
	MaxLineBytes  int      `json:"max_line_bytes,omitempty"`
	DropOldest    bool     `json:"drop_oldest,omitempty"`
	Sealed        []string `json:"sealed,omitempty"`
	Private       bool     `json:"private,omitempty"`
}

// MarshalJSON omits zero values and prints durations as Go does: "1m30s".
func (o QueueOptions) MarshalJSON() ([]byte, error) {
	duration := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(queueOptionsJSON{
		MaxMessages:   o.MaxMessages,
		MaxBytes:      o.MaxBytes,
		TTL:           duration(o.TTL),
		DeliveryLimit: o.DeliveryLimit,
		AckTimeout:    duration(o.AckTimeout),
		Prefetch:      o.Prefetch,
		MaxLineBytes:  o.MaxLineBytes,
		DropOldest:    o.DropOldest,
		Sealed:        o.Suites(),
		Private:       o.Private,
	})
}

// ParseQueueOptions parses the JSON form. It is strict, because a silently ignored option
// may be a missing limit. Unknown, repeated or null members and names in another case are
// errors, and so are values out of range and text after the object. A zero is an error too
// where it would mean a default, because it reads like "off"; where it means no limit, it is
// accepted. Every error has code BadArgument and is safe to show.
func ParseQueueOptions(text []byte) (QueueOptions, error) {
	var o QueueOptions
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return QueueOptions{}, badOptions("queue options are not a JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return QueueOptions{}, badOptions("queue options are not valid JSON")
		}
		if seen[name] {
			return QueueOptions{}, badOptions("queue option %s is given twice", quoteOption(name))
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return QueueOptions{}, badOptions("queue options are not valid JSON")
		}
		if err := o.set(name, value); err != nil {
			return QueueOptions{}, err
		}
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') {
		return QueueOptions{}, badOptions("queue options are not valid JSON")
	}
	if rest := bytes.TrimSpace(text[dec.InputOffset():]); len(rest) > 0 {
		return QueueOptions{}, badOptions("queue options end before the end of the text")
	}
	if err := o.Validate(); err != nil {
		return QueueOptions{}, err
	}
	return o, nil
}

// UnmarshalJSON is ParseQueueOptions.
func (o *QueueOptions) UnmarshalJSON(text []byte) error {
	parsed, err := ParseQueueOptions(text)
	if err != nil {
		return err
	}
	*o = parsed
	return nil
}

func (o *QueueOptions) set(name string, value json.RawMessage) error {
	var field any
	var duration string
	var suites []string
	what := "a whole number in its range"
	switch name {
	case "max_messages":
		field = &o.MaxMessages
	case "max_bytes":
		field = &o.MaxBytes
	case "delivery_limit":
		field = &o.DeliveryLimit
	case "prefetch":
		field = &o.Prefetch
	case "max_line_bytes":
		field = &o.MaxLineBytes
	case "ttl", "ack_timeout":
		field, what = &duration, `a duration such as "30s"`
	case "drop_oldest":
		field, what = &o.DropOldest, "true or false"
	case "private":
		field, what = &o.Private, "true or false"
	case "sealed":
		field, what = &suites, "a list of suites"
	default:
		return badOptions("unknown queue option %s", quoteOption(name))
	}
	ok := string(value) != "null" && json.Unmarshal(value, field) == nil
	switch {
	case !ok:
	case name == "sealed":
		ok = len(suites) > 0 && !slices.ContainsFunc(suites, func(s string) bool {
			return strings.Contains(s, ",") || CheckName("suite", s) != nil
		})
		o.Sealed = SealedSuites(suites...)
	case field == &duration:
		d, err := time.ParseDuration(duration)
		if ok = err == nil; name == "ttl" {
			o.TTL = d
		} else {
			o.AckTimeout = d
		}
	}
	switch {
	case !ok:
		return badOptions("%s is not %s", name, what)
	case name == "delivery_limit" && o.DeliveryLimit == 0, name == "ack_timeout" && o.AckTimeout == 0,
		name == "prefetch" && o.Prefetch == 0, name == "max_line_bytes" && o.MaxLineBytes == 0:
		return badOptions("%s is 0, and it cannot be switched off; leave it out for the default", name)
	}
	return nil
}

// quoteOption makes a name from a peer safe to print on one short line.
func quoteOption(name string) string {
	const most = 40
	if len(name) > most {
		name = name[:most] + "…"
	}
	return strconv.Quote(name)
}

func badOptions(format string, args ...any) error {
	return &Error{Code: BadArgument, Message: fmt.Sprintf(format, args...)}
}
