package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
)

// printBench writes a result for people.
func printBench(w io.Writer, r *bench.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("load", "%d publishers, %d consumers, %d bytes (%d on the line), window %d, prefetch %d, %d queues", r.Publishers, r.Consumers,
		r.Size, r.LineBytes, r.Window, r.Prefetch, r.Queues+r.IdleQueues)
	switch r.Phase {
	case bench.Publish:
		row("rate", "%.0f confirmed messages a second", r.Rate)
	case bench.Drain:
		row("rate", "%.0f messages a second, the first after %.0f ms", r.Rate, r.FirstMessage)
	default:
		row("rate", "%.0f messages a second", r.Rate)
	}
	if r.Phase != bench.Drain {
		row("confirm", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.ConfirmP50, r.ConfirmP99, r.ConfirmP999)
	}
	if r.EndToEndP50 > 0 {
		row("end to end", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.EndToEndP50, r.EndToEndP99, r.EndToEnd999)
	}
	row("messages", "%d published, %d confirmed, %d delivered in %.2f s", r.Published, r.Confirmed, r.Delivered, r.Seconds)
	row("checked", "%d lost, %d delivered twice, %d changed", r.Lost, r.Duplicates, r.Corrupt)
	if r.BrokerRSS > 0 {
		row("broker", "%.1f µs of CPU a message, %s of memory (%s before), %s on disk", r.BrokerCPU, mebibytes(r.BrokerRSS),
			mebibytes(r.BrokerRSSBefore), mebibytes(r.DiskBytes))
		row("syncs", "%d, %.1f messages each", r.Syncs, r.MessagesPerSync)
	}
	switch {
	case r.RSSPerMessage > 0 && r.Phase == bench.Publish:
		row("backlog", "%.0f bytes of memory and %.0f bytes on disk a waiting message", r.RSSPerMessage, r.DiskPerMessage)
	case r.RSSPerMessage > 0:
		row("backlog", "%.0f bytes of memory a waiting message after the start", r.RSSPerMessage)
	}
	if r.ClientCPU > 0 {
		row("client", "%.1f µs of CPU a message", r.ClientCPU)
	}
	if r.RoundTripP50 > 0 {
		row("round trip", "p50 %.0f µs, without the disk", r.RoundTripP50)
	}
	if r.SyncP50 > 0 {
		row("disk", "%s, fdatasync p50 %.0f µs", r.FileSystem, r.SyncP50)
	}
	return t.Flush()
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
