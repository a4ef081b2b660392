package alert

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// calm is how long something must not be found before its alert is resolved: what comes and
	// goes is one alert.
	calm = 2 * time.Minute
	// maxTracked bounds what is looked at; further findings are left out.
	maxTracked = 200
)

// tracked is something that was found.
type tracked struct {
	Alert
	firing bool
	seen   time.Time // when it was found last
}

// tracker knows since when what is so. Its methods depend on nothing but their arguments.
type tracker struct {
	list map[key]*tracked
}

func (t *tracker) get(f *finding, now time.Time) *tracked {
	if t.list == nil {
		t.list = make(map[key]*tracked)
	}
	k := f.key()
	e := t.list[k]
	if e == nil {
		if len(t.list) >= maxTracked {
			return nil
		}
		e = &tracked{}
		f.Since = now
		e.Alert = f.Alert
		t.list[k] = e
	}
	e.Text, e.Severity, e.seen = f.Text, f.Severity, now
	return e
}

// update takes in what a look has found. What has lasted for as long as its rule demands
// fires; what has not been found for a while is resolved.
func (t *tracker) update(found []finding, now time.Time) {
	for i := range found {
		if e := t.get(&found[i], now); e != nil {
			e.firing = e.firing || now.Sub(e.Since) >= found[i].hold
		}
	}
	maps.DeleteFunc(t.list, func(_ key, e *tracked) bool {
		if e.seen.After(now) { // the clock was set back
			e.seen = now
		}
		if !e.firing {
			return e.seen.Before(now)
		}
		return now.Sub(e.seen) >= calm
	})
}

// fire takes in findings that need not last.
func (t *tracker) fire(found []finding, now time.Time) {
	for i := range found {
		if e := t.get(&found[i], now); e != nil {
			e.firing = true
		}
	}
}

// remember takes in an alert that fired before a restart. It has as long to be found again as
// every other one.
func (t *tracker) remember(a Alert, now time.Time) {
	f := finding{Alert: a}
	if e := t.get(&f, now); e != nil {
		e.firing, e.Since = true, a.Since
	}
}

// firing are the alerts, the gravest first and then the oldest.
func (t *tracker) firing() []Alert {
	var list []Alert
	for _, e := range t.list {
		if e.firing {
			list = append(list, e.Alert)
		}
	}
	slices.SortFunc(list, compare)
	return list
}

func compare(a, b Alert) int {
	return cmp.Or(cmp.Compare(a.Severity, b.Severity), a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Subject, b.Subject))
}
