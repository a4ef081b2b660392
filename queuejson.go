package sealmq

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	})
}

// ParseQueueOptions parses the JSON form. It is strict, because a silently ignored option
// may be a missing limit. Unknown, repeated or null members and names in another case are
// errors, and so are values out of range and text after the object. Every error has code
// BadArgument and is safe to show.
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
	number := func(field any) error {
		if string(value) == "null" || json.Unmarshal(value, field) != nil {
			return badOptions("%s is not a whole number in its range", name)
		}
		return nil
	}
	switch name {
	case "max_messages":
		return number(&o.MaxMessages)
	case "max_bytes":
		return number(&o.MaxBytes)
	case "ttl":
		return setDuration(&o.TTL, name, value)
	case "delivery_limit":
		return number(&o.DeliveryLimit)
	case "ack_timeout":
		return setDuration(&o.AckTimeout, name, value)
	case "prefetch":
		return number(&o.Prefetch)
	case "max_line_bytes":
		return number(&o.MaxLineBytes)
	case "drop_oldest":
		if string(value) == "null" || json.Unmarshal(value, &o.DropOldest) != nil {
			return badOptions("drop_oldest is not true or false")
		}
		return nil
	case "sealed":
		var suites []string
		if json.Unmarshal(value, &suites) != nil || len(suites) == 0 {
			return badOptions("sealed is not a list of suites")
		}
		for _, s := range suites {
			if strings.Contains(s, ",") || CheckName("suite", s) != nil {
				return badOptions("sealed is not a list of suites")
			}
		}
		o.Sealed = SealedSuites(suites...)
		return nil
	}
	return badOptions("unknown queue option %s", quoteOption(name))
}

func setDuration(field *time.Duration, name string, value json.RawMessage) error {
	var text string
	err := json.Unmarshal(value, &text)
	if err == nil {
		*field, err = time.ParseDuration(text)
	}
	if err != nil || string(value) == "null" {
		return badOptions(`%s is not a duration such as "30s"`, name)
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
