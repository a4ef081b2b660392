package text

import (
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// statistics is the reply to stats: CipherMQ's keys in its order, pairs as arrays
// (specification 4.9, R34).
type statistics struct {
	DeliveryToAck    seconds        `json:"avg_delivery_to_ack_seconds"`
	PublishToAck     seconds        `json:"avg_publish_to_ack_seconds"`
	ConnectedClients int            `json:"connected_clients"`
	Consumers        pairs          `json:"consumers"`
	Status           statusCounts   `json:"message_status_counts"`
	Queues           pairs          `json:"queues"`
	RequestTimes     []requestTimes `json:"request_times_avg_seconds"`
	TotalBindings    int            `json:"total_bindings"`
	TotalExchanges   int            `json:"total_exchanges"`
}

// statusCounts counts messages that are not acknowledged. Like upstream's, Acknowledged
// is always zero: such messages are gone.
type statusCounts struct {
	Acknowledged int `json:"acknowledged"`
	Delivered    int `json:"delivered"`
	Sent         int `json:"sent"`
}

// requestTimes is [command, average, count, total].
type requestTimes [4]any

// seconds prints a whole number with its decimal point, because upstream does.
type seconds float64

// MarshalJSON implements json.Marshaler.
func (f seconds) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(f), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return []byte(text), nil
}

// pairs are a name and a number each.
type pairs [][2]any

func (r reading) average() seconds {
	if r.count == 0 {
		return 0
	}
	return seconds(time.Duration(r.nanos).Seconds() / float64(r.count))
}

// messageDelivery is upstream's pseudo command for a push.
const messageDelivery = "message_delivery"

func (s *Session) stats(v Verb, _ []byte) {
	s.answerJSON(v, s.statistics(), nil)
}

func (s *Session) statistics() statistics {
	t, counts := s.cfg.Metrics.sinceReset(), s.cfg.Broker.Counts()
	st := statistics{
		DeliveryToAck:    t.deliveryToAck.average(),
		PublishToAck:     t.publishToAck.average(),
		ConnectedClients: s.peer.Peers.Count(),
		Consumers:        pairs{},
		Queues:           pairs{},
		RequestTimes:     t.requestTimes(s.table),
		TotalBindings:    counts.Bindings,
		TotalExchanges:   counts.Exchanges,
	}
	if queues, err := s.cfg.Broker.Queues(s.caller); err == nil {
		for q := range queues {
			st.count(q)
		}
	}
	return st
}

func (st *statistics) count(q *engine.QueueInfo) {
	length := q.Ready + q.Unacked // upstream keeps a message in its queue until it is acked
	st.Queues = append(st.Queues, [2]any{q.Name, length})
	if q.Consumers > 0 {
		st.Consumers = append(st.Consumers, [2]any{q.Name, q.Consumers})
	}
	st.Status.Sent += length
	st.Status.Delivered += q.Unacked
}

func (t *totals) requestTimes(table []row) []requestTimes {
	list := []requestTimes{}
	add := func(name string, r reading) {
		if r.count > 0 {
			list = append(list, requestTimes{name, r.average(), r.count, seconds(time.Duration(r.nanos).Seconds())})
		}
	}
	for v := Unknown + 1; int(v) < len(table); v++ {
		add(table[v].word, t.commands[v])
	}
	add(messageDelivery, t.deliveries)
	return list
}

// resetStats clears statistics and nothing else (specification R35). It changes what
// others read, so it is an administrator's.
func (s *Session) resetStats(v Verb, _ []byte) {
	if err := s.cfg.Broker.RequireAdmin(s.caller, s.table[v].word); err != nil {
		s.answerError(v, err)
		return
	}
	s.flush()
	s.cfg.Metrics.reset()
	s.cfg.Broker.Audit(s.caller, s.table[v].word, "", nil)
	s.succeed(v, "")
}
