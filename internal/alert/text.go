package alert

import (
	"fmt"
	"strings"
	"time"
)

// runbooks has the pages that say what to do.
const runbooks = "https://github.com/sealmq/sealmq/blob/main/docs/runbooks/"

// maxShown bounds the alerts that one message describes.
const maxShown = 50

// Subject is a message in one line.
func (m *Message) Subject() string {
	switch {
	case m.Test:
		return fmt.Sprintf("[SealMQ] %s: test", m.Node)
	case len(m.Firing) == 0 && len(m.Resolved) == 1:
		return fmt.Sprintf("[SealMQ] %s: resolved: %s", m.Node, m.Resolved[0].title())
	case len(m.Firing) == 0:
		return fmt.Sprintf("[SealMQ] %s: %d alerts are resolved", m.Node, len(m.Resolved))
	case len(m.Firing) == 1:
		return fmt.Sprintf("[SealMQ] %s: %s: %s", m.Node, m.Firing[0].Severity, m.Firing[0].title())
	}
	return fmt.Sprintf("[SealMQ] %s: %d alerts, first %s", m.Node, len(m.Firing), m.Firing[0].title())
}

func (a *Alert) title() string {
	if a.Subject == "" {
		return a.Name
	}
	return a.Name + " " + a.Subject
}

// Text is a message for people.
func (m *Message) Text() string {
	var b strings.Builder
	if m.Test {
		fmt.Fprintf(&b, "This is a test. The node %s can send alerts here.\n", m.Node)
		return b.String()
	}
	write := func(head string, list []Alert) {
		for i, a := range list {
			if i == maxShown {
				fmt.Fprintf(&b, "%d more are not shown.\n\n", len(list)-i)
				break
			}
			fmt.Fprintf(&b, "%s: %s (%s), since %s\n%s\nWhat to do: %s%s.md\n\n", head, a.title(), a.Severity, a.Since.UTC().Format(time.RFC3339), a.Text, runbooks, a.Name)
		}
	}
	write("FIRING", m.Firing)
	write("RESOLVED", m.Resolved)
	fmt.Fprintf(&b, "Alerts that fire on the node %s at %s: %d\n", m.Node, m.At.UTC().Format(time.RFC3339), m.Open)
	return b.String()
}
