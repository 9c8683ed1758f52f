"""The engines that methods share: frames, interpolation, tableaus, histories, stages."""
