package portal

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// A chart is the history of messages. Without scripts it is a drawing; scripts replace that by
// one that moves.
type chart struct {
	From, To time.Time
	// Max and MaxWaiting are what the top of the drawing means.
	Max, MaxWaiting string
	// Lines are paths on chartWidth by chartHeight units; Area is that of what waited.
	Lines []chartLine
	Area  string
	// Data is the same for scripts.
	Data string

	series map[string][]*float64
}

type chartLine struct{ ID, Path string }

// The units of drawings.
const (
	chartWidth, chartHeight = 1000, 200
	sparkWidth, sparkHeight = 100, 28
)

// chartData is what scripts draw: times in seconds since 1970, and a value for each, or null
// where no main server ran.
type chartData struct {
	Step      int64      `json:"step"` // seconds
	Times     []int64    `json:"times"`
	Accepted  []*float64 `json:"accepted"`
	Delivered []*float64 `json:"delivered"`
	Failed    []*float64 `json:"failed"`
	Waiting   []*float64 `json:"waiting"`
}

// newChart makes a chart with a point for each so many minutes.
func newChart(h *mainapi.History, step int) chart {
	minutes := rolling(h.Minutes, h.To)
	d := chartData{Step: int64(step) * 60}
	i := 0
	for at := h.From.Unix(); at <= h.To.Unix(); at += d.Step {
		var sum mainapi.Totals
		var n int64
		var waits *float64
		for ; i < len(minutes) && minutes[i].At.Unix() < at+d.Step; i++ {
			m := &minutes[i]
			n++
			sum.Accepted, sum.Delivered, sum.Failed = sum.Accepted+m.Accepted, sum.Delivered+m.Delivered, sum.Failed+m.Failed
			if m.Waiting != nil {
				w := float64(*m.Waiting)
				waits = &w
			}
		}
		mean := func(total int64) *float64 {
			if n == 0 {
				return nil
			}
			v := math.Round(10*float64(total)/float64(n)) / 10
			return &v
		}
		d.Times = append(d.Times, at)
		d.Accepted, d.Delivered, d.Failed = append(d.Accepted, mean(sum.Accepted)), append(d.Delivered, mean(sum.Delivered)), append(d.Failed, mean(sum.Failed))
		d.Waiting = append(d.Waiting, waits)
	}
	data, _ := json.Marshal(d) // finite numbers
	c := chart{From: h.From, To: h.To, Data: string(data),
		series: map[string][]*float64{"accepted": d.Accepted, "delivered": d.Delivered, "failed": d.Failed, "waiting": d.Waiting}}
	top, topWaiting := niceTop(d.Accepted, d.Delivered, d.Failed), niceTop(d.Waiting)
	c.Max, c.MaxWaiting = number(int64(top)), number(int64(topWaiting))
	for _, id := range []string{"accepted", "delivered", "failed"} {
		c.Lines = append(c.Lines, chartLine{id, linePath(c.series[id], top, chartWidth, chartHeight, false)})
	}
	c.Area = linePath(d.Waiting, topWaiting, chartWidth, chartHeight, true)
	return c
}

// rolling replaces the minute that runs by the last sixty seconds, as far as the minute before
// tells of them. Else each minute would begin with a fall to zero.
func rolling(list []mainapi.Minute, now time.Time) []mainapi.Minute {
	list = slices.Clone(list)
	n := len(list)
	if n < 2 || !list[n-2].At.Add(time.Minute).Equal(list[n-1].At) {
		return list
	}
	share := 1 - min(1, max(0, now.Sub(list[n-1].At).Minutes()))
	before, m := &list[n-2], &list[n-1]
	add := func(now *int64, then int64) { *now += int64(math.Round(share * float64(then))) }
	add(&m.Accepted, before.Accepted)
	add(&m.Delivered, before.Delivered)
	add(&m.Failed, before.Failed)
	return list
}

// spark is a small line of one series.
func (c *chart) spark(id string) string {
	return linePath(c.series[id], niceTop(c.series[id]), sparkWidth, sparkHeight, false)
}

// niceTop is a round number that no value is above.
func niceTop(series ...[]*float64) float64 {
	most := 0.0
	for _, s := range series {
		for _, v := range s {
			if v != nil {
				most = max(most, *v)
			}
		}
	}
	if most <= 5 {
		return 5
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{1, 2, 5, 10} {
		if f*power >= most {
			return f * power
		}
	}
	return most
}

// linePath draws values from left to right; what is not there is a gap. An area goes down to
// the foot.
func linePath(values []*float64, top float64, width, height int, area bool) string {
	var b strings.Builder
	x := func(i int) float64 { return float64(i) * float64(width) / float64(max(1, len(values)-1)) }
	begun := -1
	end := func(i int) {
		switch {
		case begun >= 0 && area:
			fmt.Fprintf(&b, "L%.1f %dL%.1f %dZ", x(i), height, x(begun), height)
		case begun >= 0 && begun == i:
			b.WriteString("h0") // a dot, because a line needs two points
		}
		begun = -1
	}
	for i, v := range values {
		if v == nil {
			end(i - 1)
			continue
		}
		word := "L"
		if begun < 0 {
			word, begun = "M", i
		}
		// Half a unit of room, so that no line is cut at the edge.
		fmt.Fprintf(&b, "%s%.1f %.1f", word, x(i), 0.5+(float64(height)-1)*(1-*v/top))
	}
	end(len(values) - 1)
	return b.String()
}
