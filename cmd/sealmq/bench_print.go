package main

import (
	"fmt"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
)

// benchFacts are the names and values of a result for people.
func benchFacts(r *bench.Result) (pairs []any) {
	add := func(when bool, name, format string, args ...any) {
		if when {
			pairs = append(pairs, name, fmt.Sprintf(format, args...))
		}
	}
	publish, drain := r.Phase == bench.Publish, r.Phase == bench.Drain
	add(true, "load", "%d publishers, %d consumers, %d bytes (%d on the line), window %d, prefetch %d, %d queues", r.Publishers, r.Consumers,
		r.Size, r.LineBytes, r.Window, r.Prefetch, r.Queues+r.IdleQueues)
	add(publish, "rate", "%.0f confirmed messages a second", r.Rate)
	add(drain, "rate", "%.0f messages a second, the first after %.0f ms", r.Rate, r.FirstMessage)
	add(!publish && !drain, "rate", "%.0f messages a second", r.Rate)
	add(!drain, "confirm", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.ConfirmP50, r.ConfirmP99, r.ConfirmP999)
	add(r.EndToEndP50 > 0, "end to end", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.EndToEndP50, r.EndToEndP99, r.EndToEnd999)
	add(true, "messages", "%d published, %d confirmed, %d delivered in %.2f s", r.Published, r.Confirmed, r.Delivered, r.Seconds)
	add(true, "checked", "%d lost, %d delivered twice, %d changed", r.Lost, r.Duplicates, r.Corrupt)
	add(r.BrokerRSS > 0, "broker", "%.1f µs of CPU a message, %s of memory (%s before), a journal of %s", r.BrokerCPU, mebibytes(r.BrokerRSS),
		mebibytes(r.BrokerRSSBefore), mebibytes(r.DiskBytes))
	add(r.BrokerRSS > 0, "syncs", "%d, %.1f messages each", r.Syncs, r.MessagesPerSync)
	add(r.RSSPerMessage > 0 && publish, "backlog", "%.0f bytes of memory and %.0f bytes of the journal a waiting message", r.RSSPerMessage, r.DiskPerMessage)
	add(r.RSSPerMessage > 0 && !publish, "backlog", "%.0f bytes of memory a waiting message after the start", r.RSSPerMessage)
	add(r.ClientCPU > 0, "client", "%.1f µs of CPU a message", r.ClientCPU)
	add(r.RoundTripP50 > 0, "round trip", "p50 %.0f µs, without the disk", r.RoundTripP50)
	add(r.SyncP50 > 0, "disk", "%s, fdatasync p50 %.0f µs", r.FileSystem, r.SyncP50)
	return pairs
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
