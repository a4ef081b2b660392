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

// pairs is the inside of a JSON array of a name and a number each. There may be very many.
type pairs []byte

func (p *pairs) add(name string, n int) {
	if len(*p) > 0 {
		*p = append(*p, ',')
	}
	*p = strconv.AppendInt(append(appendQuoted(append(*p, '['), name), ','), int64(n), 10)
	*p = append(*p, ']')
}

// MarshalJSON implements json.Marshaler.
func (p pairs) MarshalJSON() ([]byte, error) {
	return append(append([]byte{'['}, p...), ']'), nil
}

func averageSeconds(nanos int64, n uint64) seconds {
	if n == 0 {
		return 0
	}
	return seconds(time.Duration(nanos).Seconds() / float64(n))
}

// messageDelivery is upstream's pseudo command for a push.
const messageDelivery = "message_delivery"

func (s *Session) stats(v Verb, _ []byte) {
	s.answerJSON(v, prefixStats, s.statistics(), nil)
}

func (s *Session) statistics() statistics {
	t, counts := s.metrics.sinceReset(), s.broker.Counts()
	st := statistics{
		DeliveryToAck:    averageSeconds(t.deliveryToAck, t.acked),
		PublishToAck:     averageSeconds(t.publishToAck, t.acked),
		ConnectedClients: s.peers.Count(),
		RequestTimes:     t.requestTimes(s.table),
		TotalBindings:    counts.Bindings,
		TotalExchanges:   counts.Exchanges,
	}
	if queues, err := s.broker.Queues(s.caller); err == nil {
		for q := range queues {
			st.count(q)
		}
	}
	return st
}

func (st *statistics) count(q *engine.QueueInfo) {
	length := q.Ready + q.Unacked // upstream keeps a message in its queue until it is acked
	st.Queues.add(q.Name, length)
	if q.Consumers > 0 {
		st.Consumers.add(q.Name, q.Consumers)
	}
	st.Status.Sent += length
	st.Status.Delivered += q.Unacked
}

func (t *totals) requestTimes(table *[verbs]row) []requestTimes {
	list := []requestTimes{}
	add := func(name string, n uint64, nanos int64) {
		if n > 0 {
			list = append(list, requestTimes{name, averageSeconds(nanos, n), n, seconds(time.Duration(nanos).Seconds())})
		}
	}
	for _, v := range Verbs() {
		add(table[v].word, t.count[v], t.nanos[v])
	}
	add(messageDelivery, t.deliveries, t.deliveryNanos)
	return list
}

// resetStats clears statistics and nothing else (specification R35). It changes what
// others read, so it is an administrator's.
func (s *Session) resetStats(v Verb, _ []byte) {
	if err := s.broker.RequireAdmin(s.caller, s.table[v].word); err != nil {
		s.answerError(v, err)
		return
	}
	s.flush()
	s.metrics.reset()
	s.reply(v, replyStatsReset)
}
