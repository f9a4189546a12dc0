package coordinator

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/standby"
)

// configured has the lead write the queue configuration that has come into force.
func (r *replica) configured() {
	if l := r.lead.Load(); l != nil {
		l.Configured()
	}
}

// configuration is what the status says of the queue configuration.
func (r *replica) configuration() serve.Configuration {
	c := r.standby.Configuration()
	status := serve.Configuration{Source: c.Source, Epoch: c.Epoch, Hash: c.Hash, Waiting: c.Waiting, Restart: c.Restart}
	if c.Source != "" {
		status.Accepted = c.Accepted.Time()
	}
	if c.Err != nil {
		status.Error = c.Err.Error()
	}
	return status
}

// measureConfiguration makes known how the ConfigMaps' configuration was taken last, by the
// names that Prometheus' own programs have for that, and which one is in force.
func (r *replica) measureConfiguration() {
	gauge := func(name, help string, value func(standby.Configuration) float64) {
		r.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_config_" + name, Help: help},
			func() float64 { return value(r.standby.Configuration()) }))
	}
	gauge("last_reload_successful", "1 if the configuration in the ConfigMaps is in force, or waits because hot refresh is off; 0 while it is refused.",
		func(c standby.Configuration) float64 {
			if c.Source != "" && c.Err == nil {
				return 1
			}
			return 0
		})
	gauge("last_reload_success_timestamp_seconds", "When the configuration in force was accepted.",
		func(c standby.Configuration) float64 {
			if c.Source == "" {
				return 0
			}
			return float64(c.Accepted.Time().UnixMilli()) / 1000
		})
	gauge("hash", "A number that tells the configuration in force from others: replicas with different ones differ in it.",
		func(c standby.Configuration) float64 {
			number, err := strconv.ParseUint(c.Hash, 16, 64)
			if err != nil {
				return 0 // there is none yet
			}
			return float64(number)
		})
}
