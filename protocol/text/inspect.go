package text

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// answerJSON answers with the verb's reply and a value as compact JSON, or with an error.
// The value may be large, so it is not printed when memory is used up.
func (s *Session) answerJSON(v Verb, value any, err error) {
	if err == nil && s.memoryUsedUp() {
		err = errNoMemory
	}
	var encoded []byte
	if err == nil {
		encoded, err = json.Marshal(value)
	}
	n := len(encoded)
	if n > uncountedBytes && n > s.peer.Memory.Room() {
		err = errNoMemory
	}
	if err != nil {
		s.answerError(v, err)
		return
	}
	g := s.collect(ready, v)
	g.text = append(append(append(g.text, s.table[v].reply...), encoded...), '\n')
	s.answerNow(v)
	if n > uncountedBytes {
		s.flush() // so that it is counted before others look for memory
	}
}

func (s *Session) queues(v Verb, _ []byte) {
	queues, err := s.cfg.Broker.Queues(s.caller)
	s.answerJSON(v, slices.AppendSeq([]*engine.QueueInfo{}, queues), err)
}

func (s *Session) queue(v Verb, args []byte) {
	info, err := s.cfg.Broker.Queue(s.caller, string(args))
	s.answerJSON(v, info, err)
}

func (s *Session) exchanges(v Verb, _ []byte) {
	s.answerJSON(v, s.cfg.Broker.Exchanges(s.caller), nil)
}

const (
	// A peek shows bodies up to maxPeekBody and stops showing them after maxPeekBodies,
	// so that one reply stays small. With an offset a larger body is read in parts.
	maxPeekBody   = sealmq.DefaultMaxLineBytes
	maxPeekBodies = 1 << 20
)

// peeked is one message of a peek reply.
type peeked struct {
	ID          string          `json:"id"`
	Seq         uint64          `json:"seq"`
	Publisher   string          `json:"publisher"`
	Exchange    string          `json:"exchange"`
	Key         string          `json:"key"`
	Time        string          `json:"time"`
	Attempts    uint32          `json:"attempts"`
	DeathReason string          `json:"death_reason,omitempty"`
	DeathQueue  string          `json:"death_queue,omitempty"`
	Size        int             `json:"size"`
	Body        json.RawMessage `json:"body,omitempty"`
	BodyBytes   []byte          `json:"body_base64,omitempty"` // of a body that is not JSON
}

func (s *Session) peek(v Verb, args []byte) {
	queue, rest := cut(args)
	count, place := cut(rest)
	n, ok := optionalCount(count, sealmq.DefaultPeek)
	if !ok || n > sealmq.MaxPeek {
		s.badArgument(v, "the number of messages is not between 1 and "+strconv.Itoa(sealmq.MaxPeek))
		return
	}
	place, offset := cut(place)
	var from, begin int64
	if !optionalNumber(place, &from) || !optionalNumber(offset, &begin) {
		s.badArgument(v, "the place to begin at is not a whole number")
		return
	}
	messages, err := s.cfg.Broker.Peek(s.caller, string(queue), uint64(from), n)
	if err != nil {
		s.answerError(v, err)
		return
	}
	list := make([]peeked, len(messages))
	shown := 0
	for i := range messages {
		d := &messages[i]
		list[i] = peeked{ID: d.ID, Seq: d.Tag.Seq, Publisher: d.Publisher, Exchange: d.Exchange, Key: d.Key, Time: stamp(d.Published),
			Attempts: d.Attempt, DeathReason: d.DeathReason, DeathQueue: d.DeathQueue, Size: len(d.Body)}
		if len(offset) > 0 { // to be read whole, so the form matters less than each byte
			part := d.Body
			if i == 0 {
				part = part[min(begin, int64(len(part))):]
				part = part[:min(len(part), maxPeekBodies)]
			}
			if shown += len(part); shown <= maxPeekBodies {
				list[i].BodyBytes = part
			}
			continue
		}
		if len(d.Body) > maxPeekBody || shown+len(d.Body) > maxPeekBodies {
			continue
		}
		shown += len(d.Body)
		if _, err := CheckMessage(d.Body); err == nil {
			list[i].Body = d.Body
		} else {
			list[i].BodyBytes = d.Body
		}
	}
	s.answerJSON(v, list, nil)
}

// maxResends is how many resends of one connection are answered in a second: the engine
// may search all queues for each.
const maxResends = 10

// mayResend counts a resend.
func (s *Session) mayResend() bool {
	if s.resendsSince.IsZero() || s.now.Sub(s.resendsSince) >= time.Second {
		s.resendsSince, s.resends = s.now, 0
	}
	s.resends++
	return s.resends <= maxResends
}

const resendFailed = "Error retrieving message metadata"

// resend is v1.4's: it answers and sends nothing (specification 4.11).
func (s *Session) resend(v Verb, args []byte) {
	if !s.mayResend() {
		s.cfg.Metrics.refused(sealmq.LimitReached)
		s.reply(v, resendFailed)
		return
	}
	_, found, err := s.cfg.Broker.Find(s.caller, string(args))
	switch code := sealmq.CodeOf(err); {
	case err == nil && found:
		s.succeed(v, "")
	case err == nil || code == sealmq.BadName:
		s.reply(v, "Message ID not found")
	case code == sealmq.Denied:
		s.reply(v, "Unauthorized resend request")
	default:
		s.peer.Log.Info("resend cannot be answered", "err", err)
		s.reply(v, resendFailed)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (s *Session) connections(v Verb, _ []byte) {
	s.answerJSON(v, s.peer.Peers.ConnectionsOf(s.cfg.Broker.SeesConnection(s.caller)), nil)
}

// closeConnection closes one, and with "ban" keeps its identity out for a while.
func (s *Session) closeConnection(v Verb, args []byte) {
	number, rest := cut(args)
	command := s.table[v].word
	if len(rest) > 0 {
		command += " ban" // who may close may not always ban
	}
	if err := s.cfg.Broker.RequireAdmin(s.caller, command); err != nil {
		s.answerError(v, err)
		return
	}
	id, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		s.badArgument(v, "the connection id is not a number")
		return
	}
	var client string
	if word, text := cut(rest); len(rest) > 0 {
		while, perr := time.ParseDuration(string(text))
		if string(word) != "ban" || perr != nil || while <= 0 {
			s.badArgument(v, "after the id comes nothing, or ban and a duration such as 10m")
			return
		}
		client, err = s.peer.Peers.Ban(id, while)
	} else {
		client, err = s.peer.Peers.CloseConnection(id)
	}
	s.cfg.Broker.Audit(s.caller, command, broker.ConnectionObject(id, client), err)
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.succeed(v, "")
}

func (s *Session) bindings(v Verb, args []byte) {
	list, err := s.cfg.Broker.Bindings(s.caller, string(args))
	s.answerJSON(v, list, err)
}

// status says how the broker is. Only administrators learn more of what is wrong than that.
func (s *Session) status(v Verb, _ []byte) {
	counts := s.cfg.Broker.Counts()
	st := sealmq.BrokerStatus{Version: s.cfg.Version, Started: s.cfg.Started.UTC().Truncate(time.Second), Health: "ok",
		Connections: s.peer.Peers.Count(), Queues: counts.Queues, Exchanges: counts.Exchanges, Bindings: counts.Bindings}
	if err := s.cfg.Broker.Health(); err != nil {
		_, st.Health = s.explain(v, err)
		if s.caller.Role == sealmq.RoleAdmin {
			st.Health = err.Error()
		}
	}
	s.answerJSON(v, st, nil)
}

// whoami returns the caller's identity, and for how long a message may be sent again.
func (s *Session) whoami(v Verb, _ []byte) {
	who := sealmq.Who{ID: s.caller.ID, Issuer: s.caller.Issuer, CommonName: s.caller.CommonName, Role: s.caller.Role}
	if h, ok := s.cfg.Broker.DedupHorizon(); ok {
		who.DedupWindow, who.DedupMaxIDs = int64(h.Window/time.Second), h.MaxIDs
		if reach := int64(h.Covered / time.Second); h.Covered > 0 {
			who.DedupReach = &reach
		}
	}
	s.answerJSON(v, who, nil)
}
