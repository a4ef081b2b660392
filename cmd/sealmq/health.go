package main

import (
	"context"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
)

// healthOf is a check of an HTTPS listener, which is degraded while trouble says what is wrong.
func healthOf(name string, trouble func() string) httpkit.Check {
	return httpkit.Check{Name: name, Run: func(context.Context) (f httpkit.Finding) {
		if f.Reason = trouble(); f.Reason != "" {
			f.Level = httpkit.Degraded
		}
		return f
	}}
}

// statusOf is healthOf for the listener of operators.
func statusOf(name string, trouble func() string) metrics.Check {
	return metrics.Check{Name: name, Run: func() (metrics.Status, string) {
		if why := trouble(); why != "" {
			return metrics.Degraded, why
		}
		return metrics.OK, ""
	}}
}
