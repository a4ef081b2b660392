package mainserver

import (
	"context"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// LogLevel is how much the processes of a data folder log: debug, info, warn or error.
type LogLevel interface {
	// Get returns the level, and whether it is that of the configuration.
	Get() (level string, configured bool)
	// Set sets the level until further notice, also over a restart; empty is that of the
	// configuration.
	Set(level string) error
}

// GetLogLevel implements mainapi.StrictServerInterface.
func (h *handler) GetLogLevel(context.Context, mainapi.GetLogLevelRequestObject) (mainapi.GetLogLevelResponseObject, error) {
	l, err := h.logLevel()
	return mainapi.GetLogLevel200JSONResponse(l), err
}

// SetLogLevel implements mainapi.StrictServerInterface.
func (h *handler) SetLogLevel(ctx context.Context, r mainapi.SetLogLevelRequestObject) (mainapi.SetLogLevelResponseObject, error) {
	before, err := h.logLevel()
	if err != nil {
		return nil, err
	}
	level := string(r.Body.Level)
	if r.Body.Level == mainapi.SetLogLevelJSONBodyLevelDefault {
		level = ""
	}
	if err := h.cfg.LogLevel.Set(level); err != nil {
		return nil, err
	}
	now, err := h.logLevel()
	h.audit(ctx, act{event: "log_level_changed", severity: records.Info, details: map[string]any{"from": before.Level, "to": now.Level}})
	return mainapi.SetLogLevel200JSONResponse(now), err
}

func (h *handler) logLevel() (l mainapi.LogLevel, err error) {
	if h.cfg.LogLevel == nil {
		return l, httpkit.Errorf(httpkit.CodeUnavailable, "This main server does not say how much it logs")
	}
	level, configured := h.cfg.LogLevel.Get()
	return mainapi.LogLevel{Level: mainapi.LogLevelLevel(level), Configured: configured}, nil
}
