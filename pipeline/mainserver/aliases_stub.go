package mainserver

import "github.com/sealmq/sealmq/internal/httpkit"

func (h *handler) addAliases(rt *httpkit.Router) {}
