package settings

import "github.com/apache/yunikorn-core/pkg/common/configs"

// coreTakes is the core's own check.
func coreTakes(queues string) error {
	_, err := configs.LoadSchedulerConfigFromByteArray([]byte(queues))
	return err
}
