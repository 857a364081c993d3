SELECT channel, quantity, unit, scale, "offset", source
  FROM iot_service.profile_channels WHERE profile = %(profile)s AND source IS NOT NULL
