package worker

// Health is how a worker is. It is the body of its health page (specification 6.2).
type Health struct {
	Status string `json:"status"` // healthy or unhealthy
	Worker string `json:"worker_id"`
	// Checks says of the queue and the main server whether they answered last: healthy, or
	// why not.
	Checks map[string]string `json:"checks"`
}

// Health says how the worker is. It asks nobody, and is safe for concurrent use.
func (w *Worker) Health() Health {
	h := Health{Status: "healthy", Worker: w.cfg.Name, Checks: map[string]string{"queue": "healthy", "main_server": "healthy"}}
	for name, g := range map[string]*gate{"queue": &w.queue, "main_server": &w.main} {
		if err := g.state(); err != nil {
			h.Status = "unhealthy"
			h.Checks[name] = "unhealthy: " + err.Error()
		}
	}
	return h
}
