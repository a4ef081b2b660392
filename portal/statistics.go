package portal

import (
	"context"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// The page about the last weeks. The overview is about now.
var statisticsPages = []page{{path: "/admin/statistics", title: "Statistics", up: &link{"Overview", "/admin/dashboard"}, who: staff, show: showStatistics}}

type statisticsView struct {
	found   time.Time
	Periods []string
	Rows    []statisticsRow
	Clients struct{ Total, Active, Revoked int64 }
	Waiting string
}

// statisticsRow is a line of the table, with a value for each period.
type statisticsRow struct {
	Name, Tone string
	Values     []statisticsValue
}

type statisticsValue struct{ Period, Text, Share string }

// statisticsPeriods are the periods of the API, and in words.
var statisticsPeriods = []struct {
	period mainapi.GetStatisticsParamsPeriod
	text   string
}{{mainapi.GetStatisticsParamsPeriodDay, "24 hours"}, {mainapi.GetStatisticsParamsPeriodWeek, "7 days"}, {mainapi.GetStatisticsParamsPeriodMonth, "30 days"}}

// statisticsAge is how old what is shown may be: the hours of a month are costly to count.
const statisticsAge = 30 * time.Second

func showStatistics(v *visit) error {
	var problem error
	view := v.portal.statistics.Get(statisticsAge, func() (found *statisticsView, err error) {
		// They are for all readers, also if this one leaves.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), pageTimeout)
		defer cancel()
		found, err = v.statistics(ctx)
		problem = err
		return found, err
	})
	if problem == nil && (view == nil || time.Since(view.found) > statisticsAge) { // somebody else has just failed
		view, problem = v.statistics(v.ctx)
	}
	if problem != nil {
		return problem
	}
	return v.render("statistics", view)
}

func (v *visit) statistics(ctx context.Context) (*statisticsView, error) {
	view := &statisticsView{Rows: []statisticsRow{{Name: "Accepted"}, {Name: "Delivered", Tone: "good"}, {Name: "Failed", Tone: "bad"}, {Name: "Waiting"}, {Name: "Success rate"}, {Name: "Mean time to delivery"}}}
	for _, p := range statisticsPeriods {
		r, err := v.api.GetStatisticsWithResponse(ctx, &mainapi.GetStatisticsParams{Period: p.period})
		if err != nil {
			return nil, err
		}
		s := r.JSON200
		m := s.Messages
		rate, mean := "–", "–"
		if m.Delivered+m.Failed > 0 {
			rate = percent(s.Performance.SuccessRate)
		}
		if m.Delivered > 0 {
			mean = took(time.Duration(s.Performance.AvgDeliveryTimeSeconds * float64(time.Second)))
		}
		share := func(n int64) statisticsValue {
			if m.Total == 0 {
				return statisticsValue{p.text, number(n), ""}
			}
			return statisticsValue{p.text, number(n), percent(float64(n) / float64(m.Total))}
		}
		for i, value := range []statisticsValue{{p.text, number(m.Total), ""}, share(m.Delivered), share(m.Failed), share(m.Queued + m.Processing), {p.text, rate, ""}, {p.text, mean, ""}} {
			view.Rows[i].Values = append(view.Rows[i].Values, value)
		}
		view.Periods = append(view.Periods, p.text)
		view.Clients = struct{ Total, Active, Revoked int64 }{s.Clients.Total, s.Clients.Active, s.Clients.Revoked}
		view.Waiting = number(s.Queue.Ready + s.Queue.Processing + s.Queue.Retry)
	}
	view.found = time.Now()
	return view, nil
}

// percent is a share from 0 to 1. Only what is whole is called 100 %, and only nothing 0 %.
func percent(share float64) string {
	switch {
	case share == 0 || share == 1:
		return strconv.FormatFloat(100*share, 'f', 0, 64) + " %"
	case share > 0 && share < 0.001:
		return "< 0.1 %"
	case share < 1 && share > 0.999:
		return "> 99.9 %"
	}
	return strconv.FormatFloat(100*share, 'f', 1, 64) + " %"
}
